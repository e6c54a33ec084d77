//! The instructions that the scene understands: put a block of a colour in the tray of a side.
//!
//! Upper case, `please`, `the`, `on`/`in`/`into`/`onto`/`inside` and a full stop make no difference.

/// A task that was understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PutBlock {
    /// Colour of the block.
    pub colour: String,
    /// Side of the tray.
    pub side: String,
}

/// An instruction that is none of the scene's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("this scene understands: put the {} block in the {} tray", .colours.join("|"), .sides.join("|"))]
pub struct NotUnderstood {
    /// Colours that the scene has.
    pub colours: Vec<String>,
    /// Sides that the scene has.
    pub sides: Vec<String>,
}

/// Reads an instruction, given the colours and sides of the scene.
///
/// # Errors
/// [`NotUnderstood`] with what would be.
pub fn parse(
    instruction: &str,
    colours: &[&str],
    sides: &[&str],
) -> Result<PutBlock, NotUnderstood> {
    read(instruction, colours, sides).ok_or_else(|| NotUnderstood {
        colours: colours.iter().map(ToString::to_string).collect(),
        sides: sides.iter().map(ToString::to_string).collect(),
    })
}

fn read(instruction: &str, colours: &[&str], sides: &[&str]) -> Option<PutBlock> {
    let lower = instruction.to_lowercase();
    let marks: &[char] = &['.', ',', '!', '?', ';', ':', '"', '\''];
    let mut words = lower
        .split_whitespace()
        .map(|word| word.trim_matches(marks))
        .filter(|word| !word.is_empty() && *word != "please" && *word != "the");
    words
        .next()
        .filter(|verb| ["put", "place"].contains(verb))?;
    let colour = words.next().filter(|word| colours.contains(word))?;
    words
        .next()
        .filter(|noun| ["block", "cube"].contains(noun))?;
    words
        .next()
        .filter(|word| ["in", "into", "on", "onto", "inside"].contains(word))?;
    let side = words.next().filter(|word| sides.contains(word))?;
    words.next().filter(|noun| *noun == "tray")?;
    words.next().is_none().then(|| PutBlock {
        colour: colour.to_owned(),
        side: side.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const COLOURS: &[&str] = &["red", "blue"];
    const SIDES: &[&str] = &["left", "right"];

    #[test]
    fn ways_to_say_it_are_understood() {
        for (text, colour, side) in [
            ("put the red block in the left tray", "red", "left"),
            (
                "Please put the RED block into the right tray.",
                "red",
                "right",
            ),
            ("put blue cube on left tray, please!", "blue", "left"),
            (
                "  Place the blue block inside the right tray ",
                "blue",
                "right",
            ),
        ] {
            let task = parse(text, COLOURS, SIDES).unwrap();
            assert_eq!((task.colour.as_str(), task.side.as_str()), (colour, side));
        }
    }

    #[test]
    fn other_instructions_are_refused_with_what_is_understood() {
        for text in [
            "",
            "put the green block in the left tray",
            "put the red block in the middle tray",
            "put the red block in the left tray and the blue one too",
            "do not put the red block in the left tray",
            "red left",
        ] {
            let said = parse(text, COLOURS, SIDES).unwrap_err().to_string();
            let want = "this scene understands: put the red|blue block in the left|right tray";
            assert_eq!(said, want, "{text}");
        }
    }
}

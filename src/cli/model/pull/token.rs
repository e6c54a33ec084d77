//! The token that a hub's users have: from where its own tools take it, told to the hub alone.

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};

/// Longest token; real ones have some forty bytes.
const TOKEN_MAX: u64 = 1024;

/// A secret; it has no `Debug`, so that no log can hold it.
pub(super) struct Token(String);

impl Token {
    /// What the header `authorization` says.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.0)
    }

    fn of(text: &str, origin: &str) -> anyhow::Result<Option<Self>> {
        let text = text.trim();
        ensure!(
            text.bytes().all(|byte| byte.is_ascii_graphic()),
            "{origin} holds characters that no token has"
        );
        Ok((!text.is_empty()).then(|| Self(text.to_owned())))
    }
}

/// Finds the token in this process's environment, or in the files of the hub's own tools.
///
/// # Errors
/// As [`find`].
#[expect(
    clippy::disallowed_methods,
    reason = "a secret's place is named by the environment, where the hub's own tools look too"
)]
pub(super) fn of_user(is_home: bool) -> anyhow::Result<Option<Token>> {
    find(&|name| std::env::var(name).ok(), is_home)
}

/// Finds the token: `HF_TOKEN`, the file that `HF_TOKEN_PATH` names, or the file that a login has
/// left. That one was made at the home of the released checkpoints, and goes nowhere else.
///
/// # Errors
/// A file that `HF_TOKEN_PATH` names and nobody can read; bytes that no token has.
fn find(
    environment: &dyn Fn(&str) -> Option<String>,
    is_home: bool,
) -> anyhow::Result<Option<Token>> {
    let set = |name: &str| environment(name).filter(|value| !value.trim().is_empty());
    if let Some(text) = set("HF_TOKEN") {
        return Token::of(&text, "HF_TOKEN");
    }
    if let Some(path) = set("HF_TOKEN_PATH") {
        let text = read(Path::new(&path)).with_context(|| format!("HF_TOKEN_PATH: {path}"))?;
        return Token::of(&text, &path);
    }
    let folder = set("HF_HOME").map(PathBuf::from).or_else(|| {
        let cache = set("XDG_CACHE_HOME").map(PathBuf::from);
        let cache = cache.or_else(|| Some(Path::new(&set("HOME")?).join(".cache")));
        Some(cache?.join("huggingface"))
    });
    let Some(path) = folder
        .map(|folder| folder.join("token"))
        .filter(|_| is_home)
    else {
        return Ok(None);
    };
    match read(&path) {
        Ok(text) => Token::of(&text, &path.display().to_string()),
        // Nobody has logged in.
        Err(_) => Ok(None),
    }
}

fn read(path: &Path) -> std::io::Result<String> {
    let mut text = String::new();
    File::open(path)?
        .take(TOKEN_MAX)
        .read_to_string(&mut text)?;
    Ok(text)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn found(environment: &[(&str, &str)], is_home: bool) -> Option<String> {
        let look = |name: &str| {
            let mut known = environment.iter();
            known
                .find(|(key, _)| *key == name)
                .map(|(_, value)| (*value).to_owned())
        };
        find(&look, is_home).unwrap().map(|token| token.header())
    }

    #[test]
    fn a_token_is_found_where_the_hubs_own_tools_look() {
        let dir = std::env::temp_dir().join(format!("vlad-token-{}", std::process::id()));
        fs::create_dir_all(dir.join("huggingface")).unwrap();
        let file = dir.join("huggingface/token");
        fs::write(&file, "hf_login\n").unwrap();
        let (cache, file) = (dir.to_str().unwrap(), file.to_str().unwrap());
        let login = ("XDG_CACHE_HOME", cache);
        let bearer = |text: &str| Some(format!("Bearer {text}"));

        assert_eq!(
            found(&[login, ("HF_TOKEN", " hf_env ")], true),
            bearer("hf_env")
        );
        assert_eq!(found(&[login, ("HF_TOKEN", " ")], true), bearer("hf_login"));
        assert_eq!(found(&[("HF_TOKEN_PATH", file)], false), bearer("hf_login"));
        // The login's token is the home hub's alone.
        assert_eq!(found(&[login], false), None);
        assert_eq!(found(&[("HF_HOME", cache)], true), None);
        assert_eq!(found(&[], true), None);
        let odd = |name: &str| (name == "HF_TOKEN").then(|| "hf\nx".to_owned());
        let error = find(&odd, true).err().unwrap().to_string();
        assert!(
            error.contains("HF_TOKEN") && !error.contains("hf\n"),
            "{error}"
        );
        fs::remove_dir_all(&dir).unwrap();
    }
}

//! What is pulled: a repository at a revision, or a released checkpoint by its short name.

use std::fmt;
use std::str::FromStr;

use anyhow::{anyhow, ensure};
use vlad_actors::policy::xr0::released::released;

/// Longest part of a name; the hub's own bound.
const PART_MAX: usize = 96;
/// Longest name of a branch or tag.
const REVISION_MAX: usize = 200;

/// What was typed: `OWNER/NAME[@REVISION]` or `SHORT[@REVISION]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asked {
    repository: String,
    revision: Option<String>,
}

/// A repository at a revision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Source {
    /// `OWNER/NAME`.
    pub(super) repository: String,
    /// A commit, or a branch's or tag's name.
    pub(super) revision: String,
}

impl FromStr for Asked {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> anyhow::Result<Self> {
        let (repository, revision) = match text.split_once('@') {
            Some((repository, revision)) => (repository, Some(revision)),
            None => (text, None),
        };
        let parts: Vec<_> = repository.split('/').collect();
        ensure!(
            parts.len() <= 2 && parts.iter().all(|part| is_part(part)),
            "say OWNER/NAME@REVISION, or a released checkpoint's short name"
        );
        ensure!(
            revision.is_none_or(is_revision),
            "a revision is a commit, or the name of a branch or tag"
        );
        Ok(Self {
            repository: repository.to_owned(),
            revision: revision.map(str::to_owned),
        })
    }
}

fn is_part(text: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=PART_MAX).contains(&text.len())
        && text.bytes().all(plain)
        && text.starts_with(|first: char| first.is_ascii_alphanumeric())
        && !text.contains("..")
}

fn is_revision(text: &str) -> bool {
    text.len() <= REVISION_MAX && text.split('/').all(is_part)
}

impl Asked {
    /// Finds the repository and the revision: of a released checkpoint the pinned one, if no other
    /// was said.
    ///
    /// # Errors
    /// A short name that nobody knows; a repository whose revision was not said.
    pub(super) fn source(&self) -> anyhow::Result<Source> {
        let known = released()?;
        let found = known.iter().find(|known| {
            known.repository.eq_ignore_ascii_case(&self.repository)
                || known.short == self.repository
        });
        let is_short = !self.repository.contains('/');
        ensure!(found.is_some() || !is_short, {
            let names: Vec<_> = known.iter().map(|known| known.short).collect();
            let names = names.join(", ");
            format!(
                "there is no released checkpoint {}: say one of {names}, or OWNER/NAME@REVISION",
                self.repository
            )
        });
        let pinned = found.map(|known| known.revision.clone());
        let revision = self.revision.clone().or(pinned);
        let revision = revision.ok_or_else(|| {
            anyhow!(
                "say which revision: {}@COMMIT, or @BRANCH, whose commit is then told",
                self.repository
            )
        })?;
        let repository = found.map_or(&self.repository, |known| &known.repository);
        Ok(Source {
            repository: repository.clone(),
            revision,
        })
    }
}

impl fmt::Display for Source {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}@{}", self.repository, self.revision)
    }
}

impl Source {
    /// The repository's own name, without its owner.
    pub(super) fn name(&self) -> &str {
        let (_, name) = self.repository.split_once('/').unwrap_or_default();
        name
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> anyhow::Result<Source> {
        text.parse::<Asked>()?.source()
    }

    #[test]
    fn released_checkpoints_are_pinned() {
        let pinned = "fc04bbdcc53e498695cfad95d1199091396ef55b";
        for text in ["libero", "XiaomiRobotics/Xiaomi-Robotics-0-LIBERO"] {
            let source = source(text).unwrap();
            assert_eq!(source.repository, "XiaomiRobotics/Xiaomi-Robotics-0-LIBERO");
            assert_eq!(source.name(), "Xiaomi-Robotics-0-LIBERO");
            assert_eq!(source.revision, pinned);
        }
        assert_eq!(source("libero@main").unwrap().revision, "main");
        for known in released().unwrap() {
            let source = source(known.short).unwrap();
            assert_eq!(source.repository, known.repository);
            assert!(super::super::listing::is_commit(&source.revision));
        }
    }

    #[test]
    fn another_repository_needs_a_revision() {
        let own = source("me/mine@refs/pr/1").unwrap();
        assert_eq!((own.name(), own.revision.as_str()), ("mine", "refs/pr/1"));
        let error = source("me/mine").unwrap_err().to_string();
        assert!(error.contains("me/mine@COMMIT"), "{error}");
        let error = source("liberty").unwrap_err().to_string();
        assert!(error.contains("libero, "), "{error}");
    }

    #[test]
    fn names_that_could_lead_elsewhere_are_refused() {
        for bad in [
            "", "/", "a/", "/a", "a/b/c", "../a", "a/..", "a/b?x", "a/b#x", "a b/c", "-a/b",
            "a/b@", "a/b@../c", "a/b@-c", "a/b@c//d", "a/b@c@d",
        ] {
            assert!(bad.parse::<Asked>().is_err(), "{bad}");
        }
    }
}

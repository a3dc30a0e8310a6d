//! The template: a crate that is complete, and becomes another by renaming.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};

use super::name::Name;

/// What the template is called, and where it is.
const NAME: &str = "newcomer";
const FOLDERS: [&str; 2] = ["xtask/newcomer", "migrations/newcomer"];
/// What it hears.
const EVENT: &str = "OrderCompleted";
/// Around the content of the event in its tests.
const CONTENT: (&str, &str) = ("json!({\n", "\n    });");

/// Every file of the template, by its path from the root of the workspace.
#[derive(Debug)]
pub(super) struct Template(Vec<(String, String)>);

impl Template {
    pub(super) fn read(root: &Path) -> Result<Self> {
        let mut files = Vec::new();
        let mut folders: Vec<_> = FOLDERS.map(|folder| root.join(folder)).into();
        while let Some(folder) = folders.pop() {
            let entries = fs::read_dir(&folder).with_context(|| format!("cannot read {}", folder.display()))?;
            for entry in entries {
                let path = entry?.path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    let text = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
                    files.push((path.strip_prefix(root)?.display().to_string(), text));
                }
            }
        }
        files.sort();
        Ok(Self(files))
    }

    /// Whether its code uses this word; comments do not count.
    pub(super) fn uses(&self, word: &str) -> bool {
        let sources = self.0.iter().filter(|(path, _)| path.ends_with(".rs"));
        let lines = sources.flat_map(|(_, text)| text.lines());
        let code = lines.filter(|line| !line.trim_start().starts_with("//"));
        let mut words = code.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '_'));
        words.any(|used| used == word)
    }

    /// The same files under another name, hearing another event that has this content.
    pub(super) fn render(&self, name: &Name, event: &str, content: &str) -> Vec<(String, String)> {
        let rename = |text: &str| {
            text.replace(EVENT, event)
                .replace(NAME, name.as_str())
                .replace("Newcomer", &name.camel())
                .replace("NEWCOMER", &name.as_str().to_uppercase())
        };
        let files = self.0.iter().map(|(path, text)| {
            let text = match path.ends_with("support/mod.rs") {
                true => with_content(text, content),
                false => text.clone(),
            };
            (rename(&path.replace(FOLDERS[0], "services/newcomer")), rename(&text))
        });
        files.collect()
    }
}

fn with_content(text: &str, content: &str) -> String {
    let (begin, end) = CONTENT;
    let Some((before, (_, after))) = text
        .split_once(begin)
        .and_then(|(b, rest)| Some((b, rest.split_once(end)?)))
    else {
        return text.to_owned();
    };
    [before, begin, content, end, after].concat()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::super::contract::Contract;
    use super::*;
    use crate::workspace::root;

    #[test]
    fn everything_is_renamed_but_the_descriptions_of_queries() {
        let root = root().unwrap();
        let template = Template::read(&root).unwrap();
        let name = Name::choose("gift-cards", &root, &template).unwrap();
        let content = Contract::read(&root).unwrap().sample("StockLevelChanged").unwrap();
        let files = template.render(&name, "StockLevelChanged", &content);
        assert_eq!(files.len(), template.0.len());
        assert!(
            files
                .iter()
                .any(|(path, _)| path == "migrations/gift_cards/1001_gift_cards.sql")
        );
        for ((path, text), (_, before)) in files.iter().zip(&template.0) {
            let left = format!("{path}\n{text}").to_lowercase();
            assert!(
                !left.contains(NAME) && !left.contains("ordercompleted"),
                "{path}:\n{text}"
            );
            assert!(
                !path.contains("/.sqlx/") || text == before,
                "{path} describes another query"
            );
        }
        let reactions = files
            .iter()
            .find(|(path, _)| path == "services/gift_cards/src/reactions.rs");
        let wired = r#"Reactions::of("gift_cards").on::<StockLevelChanged>(reward)"#;
        assert!(reactions.unwrap().1.contains(wired));
        let support = files.iter().find(|(path, _)| path.ends_with("support/mod.rs"));
        assert!(support.unwrap().1.contains("\"sku\": subject,\n"));
    }

    #[test]
    fn the_template_says_of_its_own_event_what_would_be_said_of_it() {
        let root = root().unwrap();
        let template = Template::read(&root).unwrap();
        let content = Contract::read(&root).unwrap().sample(EVENT).unwrap();
        let support = template.0.iter().find(|(path, _)| path.ends_with("support/mod.rs"));
        let text = &support.unwrap().1;
        assert_eq!(&with_content(text, &content), text);
        assert!(text.contains(&content));
    }
}

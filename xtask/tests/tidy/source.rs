//! The sources of the workspace, read as rustfmt leaves them: a block ends with a brace as deep as its first line.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A file, by its path from the root of the workspace.
pub(crate) struct Source {
    pub(crate) path: String,
    pub(crate) text: String,
}

/// The root of the workspace.
pub(crate) fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// The names of the services.
pub(crate) fn services() -> BTreeSet<String> {
    let folders = fs::read_dir(root().join("services")).unwrap();
    folders
        .map(|folder| folder.unwrap().file_name().display().to_string())
        .collect()
}

impl Source {
    /// Every Rust file.
    pub(crate) fn all() -> Vec<Self> {
        Self::with_endings(&["rs"])
    }

    /// Every file with one of these endings, by path; what cargo and git keep is not read.
    pub(crate) fn with_endings(endings: &[&str]) -> Vec<Self> {
        let mut found = Vec::new();
        let mut folders = vec![root()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                let name = path.file_name().unwrap().to_string_lossy().into_owned();
                let ending = path.extension().unwrap_or_default().to_string_lossy().into_owned();
                if path.is_dir() && !name.starts_with('.') && name != "target" {
                    folders.push(path);
                } else if path.is_file() && endings.contains(&ending.as_str()) {
                    let inside = path.strip_prefix(root()).unwrap().display().to_string();
                    found.push(Self {
                        path: inside,
                        text: fs::read_to_string(&path).unwrap(),
                    });
                }
            }
        }
        found.sort_by(|a, b| a.path.cmp(&b.path));
        found
    }

    /// The same lines, those of test modules emptied.
    pub(crate) fn without_tests(self) -> Self {
        let lines: Vec<&str> = self.text.lines().collect();
        let mut kept = Vec::new();
        let mut at = 0;
        while let Some(line) = lines.get(at) {
            let length = if line.trim_start().starts_with("#[cfg(") && line.contains("test") {
                1 + block(&lines, at + 1)
            } else {
                kept.push(*line);
                at += 1;
                continue;
            };
            kept.resize(kept.len() + length, "");
            at += length;
        }
        Self {
            text: kept.join("\n"),
            path: self.path,
        }
    }

    /// Whether the line above is a comment.
    pub(crate) fn is_explained(&self, number: usize) -> bool {
        let above = self.text.lines().nth(number.saturating_sub(2));
        above.is_some_and(|line| line.trim_start().starts_with("//"))
    }

    /// The lines that are not comments, numbered from 1.
    pub(crate) fn code(&self) -> impl Iterator<Item = (usize, &str)> {
        let numbered = (1..).zip(self.text.lines());
        numbered.filter(|(_, line)| !line.trim_start().starts_with("//"))
    }

    /// Line, name and length in lines of every function.
    pub(crate) fn functions(&self) -> Vec<(usize, String, usize)> {
        let lines: Vec<&str> = self.text.lines().collect();
        let begins = self.code().filter_map(|(number, line)| Some((number, function(line)?)));
        begins
            .map(|(number, name)| (number, name, block(&lines, number - 1)))
            .collect()
    }

    /// Whether a line stands inside a loop of its function.
    pub(crate) fn is_in_loop(&self, number: usize) -> bool {
        let lines: Vec<&str> = self.text.lines().take(number).collect();
        let mut depth = lines.last().map_or(0, |line| indent(line));
        for line in lines.iter().rev().filter(|line| !line.trim().is_empty()) {
            if indent(line) < depth {
                depth = indent(line);
                let begins = line.trim_start();
                if ["loop ", "while ", "for "].iter().any(|word| begins.starts_with(word)) {
                    return true;
                }
                if function(line).is_some() {
                    return false;
                }
            }
        }
        false
    }
}

/// How many lines the item that begins at this line has.
fn block(lines: &[&str], from: usize) -> usize {
    let Some(first) = lines.get(from) else { return 0 };
    let ends = |line: &str| line.ends_with(';') || line.ends_with('}');
    if ends(first) {
        return 1;
    }
    let closing = format!("{}}}", " ".repeat(indent(first)));
    let inside = lines[from + 1..].iter();
    // A declaration over several lines ends with a semicolon as deep as it began.
    let end = inside.take_while(|line| **line != closing && !(indent(line) == indent(first) && line.ends_with(';')));
    end.count() + 2
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start().len()
}

/// The name of the function that begins on this line.
fn function(line: &str) -> Option<String> {
    let mut words = line.split_whitespace();
    let qualifiers = ["pub", "async", "const", "unsafe", "pub(crate)", "pub(super)"];
    let word = words.find(|word| !qualifiers.contains(word))?;
    let name = words.next()?;
    let end = name
        .find(|c: char| !c.is_alphanumeric() && c != '_')
        .unwrap_or(name.len());
    (word == "fn").then(|| name[..end].to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            path: "a/src/b.rs".into(),
            text: text.into(),
        }
    }

    #[test]
    fn a_function_is_as_long_as_from_its_name_to_its_brace() {
        let text = "impl A {\n    pub(crate) async fn long(\n        a: u8,\n    ) -> u8 {\n        a\n    }\n\n    fn short() {}\n}\n\ntrait T {\n    fn none(&self);\n}";
        let expected = [
            (2, "long".to_owned(), 5),
            (8, "short".to_owned(), 1),
            (12, "none".to_owned(), 1),
        ];
        assert_eq!(source(text).functions(), expected);
    }

    #[test]
    fn a_test_module_is_left_out_wherever_it_stands_and_the_lines_keep_their_numbers() {
        let text = "#[cfg(test)]\nmod elsewhere;\nfn a() {}\n#[cfg(test)]\nmod tests {\n    x.unwrap();\n}\nfn b() {}";
        let shipped = source(text).without_tests();
        assert_eq!(shipped.text, "\n\nfn a() {}\n\n\n\n\nfn b() {}");
    }

    #[test]
    fn a_loop_counts_only_around_the_line_and_within_its_function() {
        let text = "fn a() {\n    loop {\n        sleep(1);\n    }\n    sleep(2);\n}\n";
        assert!(source(text).is_in_loop(3));
        assert!(!source(text).is_in_loop(5));
    }
}

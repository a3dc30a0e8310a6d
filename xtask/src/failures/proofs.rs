//! Tests that name the rows they prove.

use std::fs;
use std::path::Path;

use anyhow::Result;

/// A test, or a file of tests, that proves rows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Proof {
    pub(super) rows: Vec<usize>,
    /// What must hold.
    pub(super) sentence: String,
    /// The file, from the root of the workspace.
    pub(super) path: String,
    /// The function; none: the whole file.
    pub(super) name: Option<String>,
}

impl Proof {
    /// The name of the test in words.
    pub(super) fn title(&self) -> String {
        match &self.name {
            Some(name) => name.replace('_', " "),
            None => self.path.clone(),
        }
    }

    /// Where it is, for a complaint.
    pub(super) fn place(&self) -> String {
        format!("{}: {}", self.path, self.title())
    }
}

/// Every proof of the workspace by path and line, and a complaint for each comment that only looks like one.
pub(super) fn find(root: &Path) -> Result<Vec<Result<Proof, String>>> {
    let mut files = Vec::new();
    rust_files(root, &mut files)?;
    files.sort();
    let mut found = Vec::new();
    for file in files {
        let path = file.strip_prefix(root)?.display().to_string();
        found.extend(scan(&path, &fs::read_to_string(&file)?));
    }
    Ok(found)
}

fn rust_files(folder: &Path, files: &mut Vec<std::path::PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if path.is_dir() && !name.starts_with('.') && name != "target" {
            rust_files(&path, files)?;
        } else if path.is_file() && name.ends_with(".rs") {
            files.push(path);
        }
    }
    Ok(())
}

/// The proofs of one file. A comment begins where the line above is none of its kind.
fn scan(path: &str, text: &str) -> Vec<Result<Proof, String>> {
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let mut found = Vec::new();
    for (at, line) in lines.iter().enumerate() {
        let Some(mark) = ["///", "//!"].into_iter().find(|mark| line.starts_with(mark)) else {
            continue;
        };
        if at > 0 && lines[at - 1].starts_with(mark) {
            continue;
        }
        let length = lines[at..].iter().take_while(|line| line.starts_with(mark)).count();
        let paragraph = lines[at..at + length]
            .iter()
            .map(|line| line[mark.len()..].trim())
            .take_while(|line| !line.is_empty());
        let paragraph = paragraph.collect::<Vec<_>>().join(" ");
        let name = match mark {
            "///" => test_below(&lines[at + length..]),
            _ => Some(None),
        };
        found.extend(proof(path, at + 1, &paragraph, name));
    }
    found
}

/// A proof if the comment begins like one; `name` is none if there is no test below.
fn proof(path: &str, line: usize, comment: &str, name: Option<Option<String>>) -> Option<Result<Proof, String>> {
    let rest = comment.strip_prefix("Rows ").or_else(|| comment.strip_prefix("Row "))?;
    if !rest.starts_with(|first: char| first.is_ascii_digit()) {
        return None;
    }
    let complaint = |what: &str| Some(Err(format!("{path}:{line}: {what}: {comment}")));
    let Some((rows, sentence)) = rest.split_once(": ") else {
        return complaint("a row is named as in `Row 9: what must hold.`");
    };
    let rows = rows.replace(" and ", ", ");
    let rows = rows.split(',').map(|row| row.trim().parse::<usize>());
    let (Ok(rows), Some(name)) = (rows.collect::<Result<Vec<_>, _>>(), name) else {
        return complaint("a row is named above a test, as in `Rows 3, 4: what must hold.`");
    };
    let mut letters = sentence.chars();
    let sentence = letters
        .next()
        .map(|first| first.to_uppercase().chain(letters).collect());
    Some(Ok(Proof {
        rows,
        sentence: sentence.unwrap_or_default(),
        path: path.to_owned(),
        name,
    }))
}

/// The name of the test that these lines begin with: attributes, one of them a test's, then the function.
fn test_below(lines: &[&str]) -> Option<Option<String>> {
    let function = lines.iter().position(|line| line.contains("fn "))?;
    let (attributes, function) = (&lines[..function], lines[function]);
    let only_attributes = attributes
        .iter()
        .all(|line| !line.is_empty() && !line.ends_with([';', '}']));
    let is_test = attributes
        .iter()
        .any(|line| line.starts_with("#[") && line.contains("test"));
    let (_, name) = function.split_once("fn ")?;
    let end = name.find(|c: char| !c.is_alphanumeric() && c != '_')?;
    (only_attributes && is_test).then(|| Some(name[..end].to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The comments of these tests are put together here, so that they are not taken for those of tests.
    fn scanned(comment: &str, below: &str) -> Vec<Result<Proof, String>> {
        scan("a/tests/b.rs", &format!("use c;\n\n/// {comment}\n{below}\n"))
    }

    #[test]
    fn a_test_proves_the_rows_that_its_comment_begins_with() {
        let comment = "Rows 3, 4: once and\n/// for all.\n///\n/// More.";
        let below = "#[tokio::test(flavor = \"multi_thread\")]\nasync fn it_heals() {}";
        let expected = Proof {
            rows: vec![3, 4],
            sentence: "Once and for all.".into(),
            path: "a/tests/b.rs".into(),
            name: Some("it_heals".into()),
        };
        assert_eq!(scanned(comment, below), [Ok(expected)]);
        assert_eq!(scanned("Reads rows.", below), []);
        assert_eq!(scanned("Rows of a table: two.", below), []);
    }

    #[test]
    fn a_comment_that_only_looks_like_a_proof_is_complained_about() {
        let test = "#[test]\nfn it_heals() {}";
        for (comment, below) in [
            ("Row 9 of the table.", test),
            ("Row 9, perhaps: it heals.", test),
            ("Row 9: it heals.", "fn it_heals() {}"),
            ("Row 9: it heals.", "struct Healed;\n\n#[test]\nfn it_heals() {}"),
        ] {
            let found = scanned(comment, below);
            assert!(matches!(found[..], [Err(_)]), "{comment}: {found:?}");
        }
    }

    #[test]
    fn a_whole_file_may_prove_a_row() {
        let found = scan("a/tests/b.rs", "//! Row 7: it heals.\n\nuse c;\n");
        assert!(matches!(&found[..], [Ok(proof)] if proof.name.is_none() && proof.title() == "a/tests/b.rs"));
    }
}

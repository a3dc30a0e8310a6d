//! `cargo shop failures`: docs/failures.md, written from a list of what can go wrong and from the tests.
//!
//! A test that proves a row says so in the first words of its doc comment: `/// Row 9: what must hold.`, or
//! `/// Rows 3, 4: …` for several. A whole file does the same with `//! Row 9: …`.

mod page;
mod proofs;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, Result, ensure};

use proofs::Proof;

/// Where the page is, from the root of the workspace.
pub const PAGE: &str = "docs/failures.md";
/// How many rows there are.
const ROWS: usize = 48;

/// Something that can go wrong.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    number: usize,
    failure: String,
    /// What happens here then.
    answer: String,
    /// Why no test proves it.
    excuse: Option<String>,
}

/// What can go wrong, with the tests that prove what happens then.
#[derive(Debug)]
pub struct Failures {
    rows: Vec<Row>,
    proofs: BTreeMap<usize, Vec<Proof>>,
    /// Doc comments that want to name a row and do not.
    malformed: Vec<String>,
}

impl Failures {
    /// Reads the list, and every test of the workspace.
    pub fn read(root: &Path) -> Result<Self> {
        let rows = rows(include_str!("failures/rows.md"))?;
        let (mut proofs, mut malformed) = (BTreeMap::<usize, Vec<Proof>>::new(), Vec::new());
        for found in proofs::find(root)? {
            match found {
                Ok(proof) => {
                    for row in &proof.rows {
                        proofs.entry(*row).or_default().push(proof.clone());
                    }
                }
                Err(complaint) => malformed.push(complaint),
            }
        }
        Ok(Self {
            rows,
            proofs,
            malformed,
        })
    }

    /// The page as it should be.
    pub fn page(&self) -> String {
        page::page(self)
    }

    /// Whatever keeps the list from being complete and true, one sentence each.
    pub fn gaps(&self) -> Vec<String> {
        let mut gaps = self.malformed.clone();
        let known = |number: &usize| self.rows.iter().any(|row| row.number == *number);
        for (number, proofs) in self.proofs.iter().filter(|(number, _)| !known(number)) {
            gaps.extend(
                proofs
                    .iter()
                    .map(|proof| format!("{}: there is no row {number}", proof.place())),
            );
        }
        for row in &self.rows {
            match (self.proofs.contains_key(&row.number), &row.excuse) {
                (false, None) => gaps.push(format!(
                    "row {}: neither a test nor an excuse: {}",
                    row.number, row.failure
                )),
                (true, Some(_)) => gaps.push(format!("row {}: has a test and needs no excuse any more", row.number)),
                _ => {}
            }
        }
        gaps
    }

    fn proofs(&self, row: &Row) -> &[Proof] {
        self.proofs.get(&row.number).map_or(&[], Vec::as_slice)
    }
}

/// Writes the page, or only tells whether it is current; false if something is to be done.
pub fn run(root: &Path, only_check: bool) -> Result<bool> {
    let failures = Failures::read(root)?;
    let (file, fresh) = (root.join(PAGE), failures.page());
    let stale = fs::read_to_string(&file).ok().as_ref() != Some(&fresh);
    match (stale, only_check) {
        (false, _) => println!("{PAGE} is up to date."),
        (true, true) => println!("{PAGE} is out of date: cargo shop failures writes it."),
        (true, false) => {
            fs::write(&file, fresh).with_context(|| format!("cannot write {PAGE}"))?;
            println!("Wrote {PAGE}.");
        }
    }
    let gaps = failures.gaps();
    gaps.iter().for_each(|gap| println!("{gap}"));
    Ok(gaps.is_empty() && !(stale && only_check))
}

/// The list: a heading `## 1. the failure`, a paragraph on what happens, and perhaps `Not covered: why`.
fn rows(text: &str) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for section in text.split("\n## ").skip(1) {
        let (heading, rest) = section.split_once('\n').context("a row ends with its heading")?;
        let (number, failure) = heading
            .split_once(". ")
            .with_context(|| format!("a row has no number: {heading}"))?;
        let paragraph = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        let (answer, excuse) = match rest.split_once("Not covered:") {
            Some((answer, excuse)) => (paragraph(answer), Some(paragraph(excuse))),
            None => (paragraph(rest), None),
        };
        ensure!(!answer.is_empty(), "row {number} does not say what happens");
        let number = number
            .parse()
            .with_context(|| format!("{number} is no number of a row"))?;
        ensure!(number == rows.len() + 1, "row {number} is out of place");
        rows.push(Row {
            number,
            failure: failure.trim().to_owned(),
            answer,
            excuse,
        });
    }
    ensure!(rows.len() == ROWS, "there are {} rows instead of {ROWS}", rows.len());
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failures(excused: bool, proven: bool) -> Failures {
        let row = Row {
            number: 1,
            failure: "It breaks.".into(),
            answer: "It heals.".into(),
            excuse: excused.then(|| "it never breaks.".into()),
        };
        let proof = Proof {
            rows: vec![1],
            sentence: "It heals.".into(),
            path: "a/tests/b.rs".into(),
            name: Some("it_heals".into()),
        };
        let proofs = proven.then(|| (1, vec![proof])).into_iter().collect();
        Failures {
            rows: vec![row],
            proofs,
            malformed: Vec::new(),
        }
    }

    #[test]
    fn a_row_needs_a_test_or_an_excuse_and_not_both() {
        assert!(failures(true, false).gaps().is_empty());
        assert!(failures(false, true).gaps().is_empty());
        assert_eq!(failures(true, true).gaps().len(), 1);
        assert_eq!(failures(false, false).gaps().len(), 1);
    }

    #[test]
    fn a_test_of_a_row_that_does_not_exist_is_a_gap() {
        let mut failures = failures(false, true);
        let stray = failures.proofs[&1].clone();
        failures.proofs.insert(49, stray);
        assert_eq!(failures.gaps(), ["a/tests/b.rs: it heals: there is no row 49"]);
    }

    #[test]
    fn the_page_shows_the_sentence_and_where_its_test_is() {
        let page = failures(false, true).page();
        assert!(page.contains("- It heals. ([it heals](../a/tests/b.rs))"), "{page}");
        assert!(failures(true, false).page().contains("because it never breaks."));
    }
}

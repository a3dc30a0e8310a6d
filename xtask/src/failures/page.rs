//! The page that people read.

use super::{Failures, Row};

const INTRODUCTION: &str = "\
<!-- Written by `cargo shop failures` from xtask/src/failures/rows.md and from the doc comments of the tests. -->
<!-- Change those, not this. -->

# Failures

What can go wrong between a customer and a parcel, what happens here when it does, and the tests that prove it.
A test names its row in its doc comment; a row without a test says why it has none.
";

pub(super) fn page(failures: &Failures) -> String {
    let (covered, rest): (Vec<_>, Vec<_>) = failures.rows.iter().partition(|row| !failures.proofs(row).is_empty());
    let mut page = format!(
        "{INTRODUCTION}\n{} of {} rows are proven by tests.\n",
        covered.len(),
        failures.rows.len()
    );
    page.push_str("\n| # | Failure | What happens here | Proof |\n|--:|---|---|---|\n");
    for row in &failures.rows {
        page.push_str(&line(row, failures.proofs(row).len()));
    }
    page.push_str("\n## Proofs\n");
    for row in covered {
        page.push_str(&format!("\n### Row {}\n\n{}\n\n", row.number, row.failure));
        for proof in failures.proofs(row) {
            page.push_str(&format!(
                "- {} ([{}](../{}))\n",
                proof.sentence,
                proof.title(),
                proof.path
            ));
        }
    }
    page.push_str("\n## Not covered\n\n");
    for row in rest {
        let because = match &row.excuse {
            Some(excuse) => format!("because {excuse}"),
            None => "no test yet.".to_owned(),
        };
        page.push_str(&format!(
            "- Row {}, {} Not covered, {because}\n",
            row.number, row.failure
        ));
    }
    page
}

fn line(row: &Row, proofs: usize) -> String {
    let proof = match proofs {
        0 => "[not covered](#not-covered)".to_owned(),
        1 => format!("[1 test](#row-{})", row.number),
        _ => format!("[{proofs} tests](#row-{})", row.number),
    };
    format!("| {} | {} | {} | {proof} |\n", row.number, row.failure, row.answer)
}

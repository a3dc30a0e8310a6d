//! Whether one who expects this schema can read what follows that one.

use std::collections::BTreeSet;

use serde_json::Value;

use super::shape::Shape;

/// One reason why a reader stumbles over what a writer sends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// Where, `lines[].quantity`; empty for the event as a whole.
    pub field: String,
    /// What is wrong there.
    pub problem: Problem,
}

/// What a reader stumbles over.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Problem {
    /// The reader requires a field that the writer never sends.
    Missing,
    /// The reader requires a field that the writer may leave out.
    MayBeMissing,
    /// The reader refuses a field that it does not know.
    Unexpected,
    /// The writer may send another type.
    Type {
        /// What the reader takes.
        expected: String,
        /// What the writer may send.
        sent: String,
    },
    /// The writer may send a value that the reader does not know.
    Value(String),
    /// The writer may send more than the reader's `maximum 100` or `format uuid` lets through.
    Narrower(String),
    /// One of the schemas says what this checker does not understand.
    Unclear(String),
}

/// Every reason why somebody who expects `reader` may stumble over what follows `writer`.
///
/// A field that a schema does not name is one that its writer never sends: adding an optional field
/// breaks nobody, although JSON Schema by itself would let a former writer have sent anything there.
pub fn mismatches(reader: &Value, writer: &Value) -> Vec<Mismatch> {
    let mut found = Vec::new();
    compare("", reader, writer, &mut found);
    found
}

fn compare(field: &str, reader: &Value, writer: &Value, found: &mut Vec<Mismatch>) {
    let (expected, sent) = (Shape::of(reader), Shape::of(writer));
    if expected == sent && expected.fields.is_empty() && expected.items.is_none() {
        return;
    }
    let mut problem = |problem| {
        found.push(Mismatch {
            field: field.to_owned(),
            problem,
        });
    };
    if let Some(keyword) = expected.unclear.as_ref().or(sent.unclear.as_ref()) {
        if reader != writer {
            problem(Problem::Unclear(keyword.clone()));
        }
        return;
    }
    if !takes_types(&expected, &sent) {
        return problem(Problem::Type {
            expected: names(&expected.types),
            sent: names(&sent.types),
        });
    }
    values(&expected, &sent).into_iter().for_each(&mut problem);
    limits(&expected, &sent).into_iter().for_each(&mut problem);
    fields(field, &expected, &sent, found);
    if let (Some(expected), Some(sent)) = (&expected.items, &sent.items) {
        compare(&format!("{field}[]"), expected, sent, found);
    }
}

/// No types at all mean any.
fn takes_types(expected: &Shape, sent: &Shape) -> bool {
    let takes = |name: &String| {
        let whole = name == "integer" && expected.types.contains("number");
        expected.types.contains(name) || whole
    };
    expected.types.is_empty() || (!sent.types.is_empty() && sent.types.iter().all(takes))
}

fn names(types: &BTreeSet<String>) -> String {
    match types.len() {
        0 => "anything".into(),
        _ => types.iter().cloned().collect::<Vec<_>>().join(" or "),
    }
}

fn values(expected: &Shape, sent: &Shape) -> Vec<Problem> {
    let Some(known) = &expected.values else {
        return Vec::new();
    };
    let Some(sent) = &sent.values else {
        return vec![Problem::Narrower("list of values".into())];
    };
    let unknown = sent.iter().filter(|value| !known.contains(value));
    unknown.map(|value| Problem::Value(plain(value))).collect()
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

fn limits(expected: &Shape, sent: &Shape) -> Vec<Problem> {
    let mut found = Vec::new();
    if let Some(format) = &expected.format
        && sent.format.as_ref() != Some(format)
    {
        found.push(Problem::Narrower(format!("format {format}")));
    }
    if let Some(pattern) = &expected.pattern
        && sent.pattern.as_ref() != Some(pattern)
    {
        found.push(Problem::Narrower(format!("pattern {pattern}")));
    }
    for (name, bound) in &expected.bounds {
        let is_least = name.to_lowercase().contains("min");
        let holds = |sent: &f64| if is_least { sent >= bound } else { sent <= bound };
        if !sent.bounds.get(name).is_some_and(holds) {
            found.push(Problem::Narrower(format!("{name} {bound}")));
        }
    }
    found
}

fn fields(field: &str, expected: &Shape, sent: &Shape, found: &mut Vec<Mismatch>) {
    let inside = |name: &str| match field {
        "" => name.to_owned(),
        _ => format!("{field}.{name}"),
    };
    for (name, reader) in &expected.fields {
        let required = expected.required.contains(name);
        let problem = match sent.fields.get(name) {
            None if required => Some(Problem::Missing),
            Some(_) if required && !sent.required.contains(name) => Some(Problem::MayBeMissing),
            _ => None,
        };
        let field = inside(name);
        found.extend(problem.map(|problem| Mismatch {
            field: field.clone(),
            problem,
        }));
        if let Some(writer) = sent.fields.get(name) {
            compare(&field, reader, writer, found);
        }
    }
    let unnamed = sent
        .fields
        .iter()
        .filter(|(name, _)| !expected.fields.contains_key(*name));
    for (name, writer) in unnamed {
        match &expected.others {
            None => {}
            Some(_) if expected.is_closed() => found.push(Mismatch {
                field: inside(name),
                problem: Problem::Unexpected,
            }),
            Some(reader) => compare(&inside(name), reader, writer, found),
        }
    }
    if let (Some(reader), Some(writer)) = (&expected.others, &sent.others)
        && !sent.is_closed()
    {
        compare(&inside("*"), reader, writer, found);
    }
}

//! Whether what is about to be told follows its committed schema; asked in debug builds only.
//!
//! Types and schemas agree by test, so a breach is a value that a type allows and its schema does not. Who made it
//! learns at once, before anybody hears it: nothing of the batch is saved.

use std::collections::HashMap;
use std::sync::LazyLock;

use events::contract;
use jsonschema::Validator;

use crate::Draft;

static VALIDATORS: LazyLock<HashMap<&str, Validator>> = LazyLock::new(|| {
    let compiled = contract::committed().filter_map(|(label, schema)| Some((label, validator(schema)?)));
    compiled.collect()
});

fn validator(schema: &str) -> Option<Validator> {
    let schema = serde_json::from_str(schema).ok()?;
    // By itself the validator takes any text for a date or a uuid.
    let options = jsonschema::options().should_validate_formats(true);
    options.build(&schema).ok()
}

/// What of the content its schema does not allow; a type without a committed schema is a test's own.
pub(crate) fn breach(draft: &Draft) -> Option<String> {
    let label = draft.event_type.label();
    let validator = VALIDATORS.get(label.as_str())?;
    let content = match serde_json::from_str(&draft.payload) {
        Ok(content) => content,
        Err(error) => return Some(format!("{label} is not JSON: {error}")),
    };
    let breach = validator.iter_errors(&content).next()?;
    // The value itself may be somebody's address.
    let (place, rule) = (breach.instance_path(), breach.schema_path());
    Some(format!("{label} breaks its schema: {place} does not satisfy {rule}"))
}

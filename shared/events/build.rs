//! Embeds the committed schemas, whichever there are: an event is compiled before its schema is written.
//!
//! Nothing in it says where this workspace is, so that a copy of it can share what was compiled.

use std::fmt::Write as _;
use std::path::Path;
use std::{env, fs};

fn main() {
    let folder = Path::new("schemas");
    println!("cargo::rerun-if-changed={}", folder.display());
    let entries = fs::read_dir(folder).expect("the schemas are in shared/events/schemas");
    let paths = entries.map(|entry| entry.expect("a schema can be read").path());
    let mut labels: Vec<_> = paths
        .filter_map(|path| path.file_name()?.to_str()?.strip_suffix(".json").map(str::to_owned))
        .collect();
    labels.sort();
    let mut code = "/// Text by label, sorted.\nstatic COMMITTED: &[(&str, &str)] = &[\n".to_owned();
    for label in labels {
        let text = fs::read_to_string(folder.join(format!("{label}.json"))).expect("a schema can be read");
        writeln!(code, "    ({label:?}, {text:?}),").expect("memory");
    }
    code.push_str("];\n");
    let target = env::var("OUT_DIR").expect("cargo tells where to write");
    fs::write(Path::new(&target).join("schemas.rs"), code).expect("the list can be written");
}

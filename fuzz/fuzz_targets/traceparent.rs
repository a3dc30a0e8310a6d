//! Whatever the two headers hold, what is read of them is written so that it is read again the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use telemetry::TraceContext;

fuzz_target!(|headers: (Vec<String>, Vec<String>)| {
    let (parents, states) = headers;
    let read = TraceContext::of_headers(parents.iter().map(String::as_str), states.iter().map(String::as_str));
    match read.traceparent() {
        None => assert_eq!(read, TraceContext::NONE),
        Some(written) => {
            assert_eq!(written.len(), 55);
            assert_eq!(TraceContext::parse(&written, read.tracestate()), Ok(read));
        }
    }
});

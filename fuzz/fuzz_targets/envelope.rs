//! Whatever the headers of a message hold, an envelope is refused, or written so that it is read again the same.
#![no_main]

use async_nats::HeaderMap;
use libfuzzer_sys::fuzz_target;
use messaging::Envelope;

const NAMES: [&str; 9] = [
    "ce-id",
    "ce-type",
    "ce-subject",
    "ce-sequence",
    "ce-correlationid",
    "ce-causationid",
    "ce-time",
    "traceparent",
    "tracestate",
];
const LEGAL: [&str; 9] = [
    "0198a8a0-0000-7000-8000-000000000001",
    "shop.order.OrderPlaced.v1",
    "0198a8a0-0000-7000-8000-000000000002",
    "1",
    "0198a8a0-0000-7000-8000-000000000002",
    "0198a8a0-0000-7000-8000-000000000003",
    "2026-01-01T00:00:00.000001Z",
    "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    "vendor=1",
];

fuzz_target!(|changes: Vec<(u8, bool, String)>| {
    let mut headers = HeaderMap::new();
    NAMES.iter().zip(LEGAL).for_each(|(name, value)| headers.insert(*name, value));
    for (name, append, value) in &changes {
        // A header cannot hold these; the client's own parser refuses them.
        let value = value.replace(['\r', '\n'], "");
        let name = NAMES[usize::from(*name) % NAMES.len()];
        if *append {
            headers.append(name, value.as_str());
        } else {
            headers.insert(name, value.as_str());
        }
    }
    if let Ok(read) = Envelope::from_headers(Some(&headers)) {
        assert!(!read.subject.contains('\0'));
        assert_eq!(Envelope::from_headers(Some(&read.headers())), Ok(read));
    }
});

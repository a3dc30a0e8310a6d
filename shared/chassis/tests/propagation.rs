//! The cases of the W3C's own Trace Context suite (level 2), through real sockets: a request comes in, another goes
//! out, and what the second carries is compared. The suite itself runs against `examples/conformance.rs`.

use std::net::SocketAddr;

use axum::Router;
use axum::http::{HeaderMap, Method};
use axum::routing::post;
use chassis::serve::{Ending, Limits, serve};
use chassis::{client, surface};
use reqwest::{Request, Url};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::door::{Client, PATIENCE};

const TRACE: &str = "12345678901234567890123456789012";
const SPAN: &str = "1234567890123456";

/// Calls whoever listens behind it as often as it is told to, in the trace of its caller.
struct Service {
    address: SocketAddr,
    called: mpsc::UnboundedReceiver<HeaderMap>,
}

async fn listen(routes: Router) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(serve(listener, routes, Limits::default(), Ending::default()));
    address
}

impl Service {
    async fn start() -> Self {
        // The first test to come sets up this process; without an exporter nothing is recorded, but ids are passed on.
        let _ = telemetry::start("conformance", telemetry::LogFormat::Pretty);
        let (heard, called) = mpsc::unbounded_channel();
        let callback = move |headers: HeaderMap| async move { heard.send(headers).map_err(|_| "nobody listens") };
        let behind =
            listen(Router::new().route("/callback", post(|headers| async { callback(headers).await.unwrap() }))).await;
        let url: Url = format!("http://{behind}/callback").parse().unwrap();
        let call = move |times: String| async move {
            let client = client::client(PATIENCE).unwrap();
            for _ in 0..times.parse().unwrap() {
                let request = Request::new(Method::POST, url.clone());
                client::send(&client, request, "behind", "/callback").await.unwrap();
            }
        };
        let address = listen(surface(Router::new().route("/test", post(call)))).await;
        Self { address, called }
    }

    /// What is carried on, as `(traceparent, members of tracestate)`, once for each call.
    async fn carries(&mut self, headers: &[(&str, &str)], times: usize) -> Vec<(String, Vec<String>)> {
        let mut client = Client(tokio::net::TcpStream::connect(self.address).await.unwrap());
        let headers: String = headers
            .iter()
            .map(|(name, value)| format!("{name}:{value}\r\n"))
            .collect();
        client
            .say(format!(
                "POST /test HTTP/1.1\r\nhost: x\r\ncontent-length: 1\r\n{headers}\r\n{times}"
            ))
            .await;
        let answer = client.hear().await.unwrap();
        assert_eq!(answer.status, 200, "{answer:?}");
        let mut carried = Vec::new();
        for _ in 0..times {
            let headers = self.called.recv().await.unwrap();
            let parents: Vec<_> = headers.get_all("traceparent").iter().collect();
            assert_eq!(parents.len(), 1, "{headers:?}");
            let parent = parents[0].to_str().unwrap().to_owned();
            assert!(
                telemetry::TraceContext::parse(&parent, None).is_ok() && parent.starts_with("00-"),
                "{parent}"
            );
            assert!(
                answer.head.contains(&format!("trace-id: {}", &parent[3..35])),
                "{answer:?}"
            );
            let states = headers
                .get_all("tracestate")
                .iter()
                .map(|state| state.to_str().unwrap());
            let members = states
                .flat_map(|state| state.split(','))
                .map(|member| member.trim().to_owned());
            carried.push((parent, members.collect()));
        }
        carried
    }

    async fn carries_once(&mut self, headers: &[(&str, &str)]) -> (String, Vec<String>) {
        self.carries(headers, 1).await.remove(0)
    }
}

/// One `traceparent` with this text.
fn parent(text: &str) -> Vec<(&'static str, String)> {
    vec![("traceparent", text.to_owned())]
}

fn of(flags: &str) -> String {
    format!("00-{TRACE}-{SPAN}-{flags}")
}

#[tokio::test]
async fn a_legal_traceparent_is_continued_by_another_span() {
    let mut service = Service::start().await;
    let later = |rest: &str| format!("cc-{TRACE}-{SPAN}-01{rest}");
    let legal = [
        ("traceparent", of("01")),
        ("traceparent", of("00")),
        ("TraceParent", of("01")),
        ("TrAcEpArEnT", of("01")),
        ("TRACEPARENT", of("01")),
        ("traceparent", later("")),
        ("traceparent", later("-what-the-future-will-be-like")),
        ("traceparent", format!(" {}", of("01"))),
        ("traceparent", format!("\t{}", of("01"))),
        ("traceparent", format!("{} ", of("01"))),
        ("traceparent", format!("{}\t", of("01"))),
        ("traceparent", format!("\t {} \t", of("01"))),
    ];
    for (name, text) in legal {
        let (carried, _) = service.carries_once(&[(name, &text)]).await;
        assert_eq!(&carried[3..35], TRACE, "{name}: {text}");
        assert_ne!(&carried[36..52], SPAN, "{name}: {text}");
    }
}

#[tokio::test]
async fn an_illegal_traceparent_starts_another_trace() {
    let mut service = Service::start().await;
    let zero = "0".repeat(32);
    let illegal = [
        of("01."),
        of("01-what-the-future-will-be-like"),
        format!("cc-{TRACE}-{SPAN}-01.what-the-future-will-be-like"),
        format!("ff-{TRACE}-{SPAN}-01"),
        format!(".0-{TRACE}-{SPAN}-01"),
        format!("0.-{TRACE}-{SPAN}-01"),
        format!("000-{TRACE}-{SPAN}-01"),
        format!("0000-{TRACE}-{SPAN}-01"),
        format!("0-{TRACE}-{SPAN}-01"),
        format!("00-{zero}-{SPAN}-01"),
        format!("00-.{}-{SPAN}-01", &TRACE[1..]),
        format!("00-{}.-{SPAN}-01", &TRACE[..31]),
        format!("00-{TRACE}3-{SPAN}-01"),
        format!("00-{}-{SPAN}-01", &TRACE[..31]),
        format!("00-{TRACE}-{}-01", &zero[..16]),
        format!("00-{TRACE}-.{}-01", &SPAN[1..]),
        format!("00-{TRACE}-{}.-01", &SPAN[..15]),
        format!("00-{TRACE}-{SPAN}7-01"),
        format!("00-{TRACE}-{}-01", &SPAN[..15]),
        of(".0"),
        of("0."),
        of("001"),
        of("1"),
        of("01").to_uppercase().replace("12", "AB"),
        format!("{}{}", of("01"), "x".repeat(20_000)),
    ];
    for text in illegal.iter().flat_map(|text| parent(text)) {
        let (carried, state) = service
            .carries_once(&[(text.0, &text.1), ("tracestate", "foo=1")])
            .await;
        assert!(
            !carried.contains(TRACE) && !carried.contains(&zero),
            "{text:?} gave {carried}"
        );
        assert!(state.is_empty(), "{text:?}: the state of another trace was kept");
    }
}

#[tokio::test]
async fn no_traceparent_two_of_them_or_one_of_another_name_start_another_trace() {
    let mut service = Service::start().await;
    let (one, two) = (of("01"), of("01").replace("9012", "9011"));
    let cases: [&[(&str, &str)]; 6] = [
        &[],
        &[("tracestate", "foo=1")],
        &[("traceparent", &one), ("traceparent", &two)],
        &[("traceparent", &one), ("traceparent", "caf\u{e9}")],
        &[("trace-parent", &one)],
        &[("trace.parent", &one)],
    ];
    for headers in cases {
        let (carried, state) = service.carries_once(headers).await;
        assert!(!carried.contains(&TRACE[..28]), "{headers:?} gave {carried}");
        assert!(state.is_empty(), "{headers:?} gave {state:?}");
    }
}

#[tokio::test]
async fn several_calls_are_several_spans_of_one_trace() {
    let mut service = Service::start().await;
    for (text, inherited) in [
        (of("01"), true),
        (String::new(), false),
        (of("01").replace(TRACE, &"0".repeat(32)), false),
    ] {
        let carried = service.carries(&[("traceparent", &text)], 3).await;
        let mut spans: Vec<&str> = carried.iter().map(|(parent, _)| &parent[36..52]).collect();
        spans.sort_unstable();
        spans.dedup();
        assert_eq!(spans.len(), 3, "{carried:?}");
        assert!(
            carried.iter().all(|(parent, _)| (&parent[3..35] == TRACE) == inherited),
            "{carried:?}"
        );
    }
}

#[tokio::test]
async fn the_random_flag_is_kept_and_set_on_traces_of_our_own() {
    let mut service = Service::start().await;
    for (given, random) in [
        (Some("02"), true),
        (Some("03"), true),
        (Some("00"), false),
        (Some("fd"), false),
        (None, true),
    ] {
        let text = given.map(of).unwrap_or_default();
        let (carried, _) = service.carries_once(&[("traceparent", &text)]).await;
        let flags = u8::from_str_radix(&carried[53..], 16).unwrap();
        assert_eq!(flags & 0x02 != 0, random, "{given:?} gave {carried}");
        assert_eq!(flags & !0x03, 0, "{given:?} gave {carried}");
    }
}

#[tokio::test]
async fn a_legal_tracestate_is_carried_on_untouched() {
    let mut service = Service::start().await;
    let (key, most) = ("z".repeat(256), |from: usize, to: usize| {
        let members: Vec<String> = (from..=to)
            .map(|number| format!("bar{number:02}={number:02}"))
            .collect();
        members.join(",")
    });
    let value: String = (0x20_u8..0x7f).map(char::from).filter(|c| !",=".contains(*c)).collect();
    let letters: String = ('a'..='z').collect();
    let allowed = format!("{letters}0123456789_-*/");
    let vendor = format!("{}@{}", "t".repeat(241), "v".repeat(14));
    let cases: Vec<(Vec<String>, String)> = vec![
        (vec!["foo=1,bar=2".into()], "foo=1,bar=2".into()),
        (
            vec!["foo=1,bar=2".into(), "rojo=1,congo=2".into(), "baz=3".into()],
            "foo=1,bar=2,rojo=1,congo=2,baz=3".into(),
        ),
        (vec!["foo=1".into(), String::new()], "foo=1".into()),
        (vec![String::new(), "foo=1".into()], "foo=1".into()),
        (vec!["foo=1,foo=2".into()], "foo=1,foo=2".into()),
        (vec!["foo=1".into(), "foo=1".into()], "foo=1,foo=1".into()),
        (vec!["foo=1 \t , \t bar=2, \t baz=3".into()], "foo=1,bar=2,baz=3".into()),
        (vec!["\t foo=1 \t".into()], "foo=1".into()),
        (vec![most(1, 16), most(17, 32)], most(1, 32)),
        (vec!["foo=1".into(), format!("{key}=1")], format!("foo=1,{key}=1")),
        (vec![format!("{vendor}=1")], format!("{vendor}=1")),
        (
            vec!["foo@=1,foo@@bar=1,foo@bar@baz=1,t@vvvvvvvvvvvvvvv=1".into()],
            "foo@=1,foo@@bar=1,foo@bar@baz=1,t@vvvvvvvvvvvvvvv=1".into(),
        ),
        (vec![format!("{allowed}={value}")], format!("{allowed}={value}")),
        (
            vec![format!("{allowed}@a-z0-9_-*/={value}")],
            format!("{allowed}@a-z0-9_-*/={value}"),
        ),
    ];
    for (states, expected) in cases {
        let given = of("00");
        let mut headers = vec![("traceparent", given.as_str())];
        headers.extend(states.iter().map(|state| ("TraceState", state.as_str())));
        let (carried, members) = service.carries_once(&headers).await;
        assert_eq!(&carried[3..35], TRACE);
        let members: Vec<String> = members.into_iter().filter(|member| !member.is_empty()).collect();
        let expected: Vec<&str> = expected.split(',').map(str::trim).collect();
        assert_eq!(members, expected, "{states:?}");
    }
}

#[tokio::test]
async fn an_illegal_tracestate_is_dropped_whole_and_the_trace_goes_on() {
    let mut service = Service::start().await;
    let many: Vec<String> = (1..=33).map(|number| format!("bar{number}=1")).collect();
    let illegal = [
        String::new(),
        many.join(","),
        format!("foo=1,{}=1", "z".repeat(257)),
        format!("foo=1,bar={}", "z".repeat(257)),
        "foo =1".into(),
        "FOO=1".into(),
        "foo.bar=1".into(),
        "@foo=1,bar=2".into(),
        "foo=bar=baz".into(),
        "foo=,bar=3".into(),
        "foo=1,caf\u{e9}=2".into(),
    ];
    for state in illegal {
        let (carried, members) = service
            .carries_once(&[("traceparent", &of("00")), ("tracestate", &state)])
            .await;
        assert_eq!(&carried[3..35], TRACE);
        assert!(members.is_empty(), "{state:?} gave {members:?}");
    }
    let given = of("00");
    for name in ["trace-state", "trace.state"] {
        let (_, members) = service.carries_once(&[("traceparent", &given), (name, "foo=1")]).await;
        assert!(members.is_empty(), "{name}");
    }
}

//! Who may do what at the broker, read off the wiring tables: `deploy/nats/accounts.conf`.
//!
//! A service tells its own events, hears through its own durables, and looks up what it has told or heard; it creates
//! nothing. Whoever reads whole streams makes consumers for that, which live as long as it reads, but never touches a
//! durable. Answers come to an inbox that nobody else may listen to.

use std::fmt::Write;

use events::Owner;
use messaging::{broker, provision, registry};

use super::Service;

/// Creates streams and durables; reads no event and tells none.
pub const PROVISIONER: &str = "provisioner";
/// Reads all streams and the registry of contracts, for audits and replays.
pub const OPERATOR: &str = "operator";
/// Looks after the server; belongs to an account of its own, without any of our subjects.
const SYS: &str = "sys";
/// What is built from whole streams once more.
const REPLAYED: [Service; 1] = [Service::Analytics];

/// A user of the shop's account.
struct User {
    name: &'static str,
    /// Subjects that it may publish to.
    allow: Vec<String>,
    /// And of these, those that it may not.
    deny: Vec<String>,
}

/// The users of a broker, as nats-server reads them; the passwords come from its environment.
pub fn accounts() -> String {
    accounts_with(&[])
}

/// The same with users who may do anything.
pub(super) fn accounts_with(almighty: &[&str]) -> String {
    let mut text = String::from(
        "# Who may do what at the broker. Written by `cargo shop docs` from the wiring tables.\n\
         #\n\
         # Passwords come from the environment of nats-server, which does not start without them. It reads them as part of\n\
         # this file: letters and digits, a letter first.\n\n",
    );
    let _ = writeln!(text, "system_account: SYS\naccounts {{");
    let _ = writeln!(text, "  SYS {{ users: [ {{ {} }} ] }}", login(SYS));
    let _ = writeln!(text, "  SHOP {{\n    jetstream: enabled\n    users: [");
    let services = Service::ALL.into_iter().map(service);
    for user in [provisioner(), operator()].into_iter().chain(services) {
        user.write(&mut text);
    }
    for name in almighty {
        let _ = writeln!(text, "      {{ {} }}", login(name));
    }
    text += "    ]\n  }\n}\n";
    text
}

/// Every user of [`accounts`].
pub(super) fn users() -> impl Iterator<Item = &'static str> {
    let services = Service::ALL.into_iter().map(Service::name);
    [SYS, PROVISIONER, OPERATOR].into_iter().chain(services)
}

/// The variable that nats-server finds a user's password in.
pub(super) fn variable(user: &str) -> String {
    format!("NATS_{}_PASSWORD", user.to_uppercase())
}

fn login(user: &str) -> String {
    format!("user: {user}, password: ${}", variable(user))
}

impl User {
    fn write(&self, text: &mut String) {
        let Self { name, allow, deny } = self;
        let inbox = broker::inbox(name);
        let _ = writeln!(text, "      {{\n        {}\n        permissions: {{", login(name));
        let _ = writeln!(text, "          publish: {{");
        for (verb, subjects) in [("allow", allow), ("deny", deny)] {
            if !subjects.is_empty() {
                let _ = writeln!(text, "            {verb}: [");
                for subject in subjects {
                    let _ = writeln!(text, "              \"{subject}\"");
                }
                let _ = writeln!(text, "            ]");
            }
        }
        let _ = writeln!(
            text,
            "          }}\n          subscribe: {{ allow: [ \"{inbox}.>\" ] }}"
        );
        let _ = writeln!(text, "        }}\n      }}");
    }
}

fn provisioner() -> User {
    let api = [
        "STREAM.CREATE.*",
        "STREAM.UPDATE.*",
        "CONSUMER.CREATE.>",
        "CONSUMER.DELETE.*.*",
    ];
    User {
        name: PROVISIONER,
        allow: api.map(|request| format!("$JS.API.{request}")).into(),
        deny: Vec::new(),
    }
}

fn operator() -> User {
    let mut allow = registry_subjects();
    allow.push("$JS.API.CONSUMER.INFO.*.*".to_owned());
    allow.extend(Owner::ALL.into_iter().flat_map(|owner| reading(owner.stream())));
    User {
        name: OPERATOR,
        allow,
        deny: durables(None),
    }
}

fn service(service: Service) -> User {
    let (name, hears) = (service.name(), service.hears());
    let is_own = |owner: &Owner| owner.name() == name;
    let own: Vec<Owner> = Owner::ALL.into_iter().filter(is_own).collect();
    let mut allow = registry_subjects();
    for owner in own {
        // The relay asks whether the stream still holds what it was told.
        let stream = owner.stream();
        allow.push(format!("shop.{name}.>"));
        allow.push(format!("$JS.API.STREAM.INFO.{stream}"));
        allow.push(format!("$JS.API.STREAM.MSG.GET.{stream}"));
    }
    for stream in hears.subjects.keys().copied().chain([provision::ADVISORIES]) {
        allow.push(format!("$JS.API.CONSUMER.INFO.{stream}.{name}"));
        allow.push(format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{name}"));
        // Acknowledgements of this release of nats-server and of the one that is announced.
        allow.push(format!("$JS.ACK.{stream}.{name}.>"));
        allow.push(format!("$JS.ACK._.*.{stream}.{name}.>"));
    }
    for stream in hears.subjects.keys() {
        // An event that the broker has given up is looked up before it is buried.
        allow.push(format!("$JS.API.STREAM.MSG.GET.{stream}"));
    }
    let mut deny = Vec::new();
    if REPLAYED.contains(&service) {
        allow.extend(hears.subjects.keys().flat_map(|stream| reading(stream)));
        deny = durables(Some(service));
    }
    User { name, allow, deny }
}

/// What reading a whole stream takes: a consumer of one's own, which is made anew after a lost connection. Only a request that
/// names it is allowed, since the name of another one in its body would change a durable.
fn reading(stream: &str) -> [String; 5] {
    [
        format!("$JS.API.STREAM.INFO.{stream}"),
        format!("$JS.API.CONSUMER.CREATE.{stream}.*"),
        format!("$JS.API.CONSUMER.INFO.{stream}.*"),
        format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.*"),
        format!("$JS.API.CONSUMER.DELETE.{stream}.*"),
    ]
}

/// What must not be done to the durables, and to one's own only as a durable's owner does.
fn durables(own: Option<Service>) -> Vec<String> {
    let of_one = |service: Service| {
        let mut denied = vec![
            format!("$JS.API.CONSUMER.CREATE.*.{service}"),
            format!("$JS.API.CONSUMER.DELETE.*.{service}"),
        ];
        if own != Some(service) {
            denied.push(format!("$JS.API.CONSUMER.MSG.NEXT.*.{service}"));
        }
        denied
    };
    Service::ALL.into_iter().flat_map(of_one).collect()
}

/// The one key of the registry of contracts: to read it, and to replace what one has read.
fn registry_subjects() -> Vec<String> {
    let (bucket, key) = (registry::BUCKET, registry::KEY);
    vec![
        format!("$JS.API.STREAM.INFO.KV_{bucket}"),
        format!("$JS.API.STREAM.MSG.GET.KV_{bucket}"),
        format!("$KV.{bucket}.{key}"),
    ]
}

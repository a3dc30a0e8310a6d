//! Colours, where somebody can see them.

use std::io::{IsTerminal, Write};

use xtask::shop::Service;

/// Prints a line, if anybody still reads: the terminal may have been closed.
pub(super) fn say(line: &str) {
    let _ = writeln!(std::io::stdout(), "{line}");
}

/// Writes in colours, or leaves words as they are.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ink {
    on: bool,
}

/// By the number of the service; beyond the last it begins again.
const OF_SERVICES: [&str; 6] = ["36", "35", "34", "32", "33", "96"];

impl Ink {
    /// Colours on a terminal, unless `NO_COLOR` is set.
    pub(super) fn of_stdout() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self {
            on: std::io::stdout().is_terminal() && !refused,
        }
    }

    pub(super) fn bold(self, text: &str) -> String {
        self.paint("1", text)
    }

    pub(super) fn dim(self, text: &str) -> String {
        self.paint("2", text)
    }

    pub(super) fn good(self, text: &str) -> String {
        self.paint("32", text)
    }

    pub(super) fn bad(self, text: &str) -> String {
        self.paint("1;31", text)
    }

    pub(super) fn warning(self, text: &str) -> String {
        self.paint("33", text)
    }

    /// A name in the colour of its service, as wide as the longest.
    pub(super) fn program(self, name: &str) -> String {
        let code = name.parse().map_or("90", |service: Service| {
            OF_SERVICES[service as usize % OF_SERVICES.len()]
        });
        self.paint(code, &format!("{name:<15}"))
    }

    fn paint(self, code: &str, text: &str) -> String {
        if self.on {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

//! A mail server of some fifty lines: enough of RFC 5321 to take a message, to refuse it, or to fall silent.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

/// A server on a port of its own, and what it got.
#[derive(Clone, Default)]
pub(crate) struct Receiver {
    pub(crate) port: u16,
    /// Whole messages, in the order they came.
    pub(crate) messages: Arc<Mutex<Vec<String>>>,
    /// How many connections were made.
    pub(crate) connections: Arc<Mutex<usize>>,
    /// What the next recipients are answered; `250 ok` when empty, nothing at all for "".
    pub(crate) answers: Arc<Mutex<VecDeque<&'static str>>>,
}

impl Receiver {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let receiver = Self {
            port: listener.local_addr().unwrap().port(),
            ..Self::default()
        };
        let serving = receiver.clone();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                *serving.connections.lock().unwrap() += 1;
                tokio::spawn(serving.clone().converse(stream));
            }
        });
        receiver
    }

    pub(crate) fn url(&self) -> String {
        format!("smtp://127.0.0.1:{}", self.port)
    }

    pub(crate) fn will_answer(&self, answers: &[&'static str]) {
        self.answers.lock().unwrap().extend(answers);
    }

    async fn converse(self, stream: TcpStream) -> std::io::Result<()> {
        let (read, mut write) = stream.into_split();
        let mut lines = BufReader::new(read).lines();
        write.write_all(b"220 receiver\r\n").await?;
        while let Some(line) = lines.next_line().await? {
            let verb = line.split([' ', ':']).next().unwrap_or_default().to_ascii_uppercase();
            let answer = match verb.as_str() {
                "RCPT" => self.answers.lock().unwrap().pop_front().unwrap_or("250 ok"),
                "DATA" => "354 go on",
                "QUIT" => "221 bye",
                _ => "250 ok",
            };
            if !answer.is_empty() {
                write.write_all(format!("{answer}\r\n").as_bytes()).await?;
            }
            if verb == "DATA" {
                let mut message = String::new();
                while let Some(line) = lines.next_line().await?.filter(|line| line != ".") {
                    message.push_str(&line);
                    message.push_str("\r\n");
                }
                self.messages.lock().unwrap().push(message);
                write.write_all(b"250 taken\r\n").await?;
            }
        }
        Ok(())
    }
}

//! The one who reads and writes the book: a single thread, so that nothing in the book is ever decided twice.

use std::io;

use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;

use crate::book::Book;
use crate::journal::Journal;

/// Jobs that may wait for one another's disk write.
const BATCH: usize = 1024;

type Answer = Box<dyn FnOnce() + Send>;
type Job = Box<dyn FnOnce(&mut Book) -> Answer + Send>;

/// A handle on the book, cheap to clone.
#[derive(Clone)]
pub(crate) struct Clerk {
    jobs: mpsc::Sender<Job>,
}

/// The book cannot be written any more; the process is about to end.
pub(crate) struct Closed;

impl Clerk {
    /// Takes over the book; the task ends with an error when the journal cannot be written.
    pub(crate) fn start(book: Book, journal: Journal) -> (Self, JoinHandle<io::Result<()>>) {
        let (jobs, queue) = mpsc::channel(BATCH);
        (
            Self { jobs },
            tokio::task::spawn_blocking(|| keep(book, journal, queue)),
        )
    }

    /// Runs `job` alone on the book and returns what it says, once everything the book then holds is on disk.
    /// A job that was handed over runs even if the caller stops waiting.
    pub(crate) async fn ask<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Book) -> T + Send + 'static,
    ) -> Result<T, Closed> {
        let (answer, answered) = oneshot::channel();
        let job: Job = Box::new(move |book| {
            let said = job(book);
            Box::new(move || _ = answer.send(said))
        });
        self.jobs.send(job).await.map_err(|_| Closed)?;
        answered.await.map_err(|_| Closed)
    }
}

/// Runs all waiting jobs, saves what they recorded with one disk write, then lets their callers know.
fn keep(mut book: Book, mut journal: Journal, mut jobs: mpsc::Receiver<Job>) -> io::Result<()> {
    let mut answers = Vec::new();
    while let Some(job) = jobs.blocking_recv() {
        answers.push(job(&mut book));
        while answers.len() < BATCH
            && let Ok(job) = jobs.try_recv()
        {
            answers.push(job(&mut book));
        }
        journal.append(&book.unsaved)?;
        book.unsaved.clear();
        for answer in answers.drain(..) {
            answer();
        }
    }
    Ok(())
}

//! The sandbox gateway as its callers see it: the real binary, over HTTP, killed without notice.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod book;
mod doors;
mod gateway;
mod payments;
mod refunds;

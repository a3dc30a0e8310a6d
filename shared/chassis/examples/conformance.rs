//! An endpoint for the W3C Trace Context suite, without database and broker:
//! `cargo run -p chassis --features conformance --example conformance`, then, in `test/` of w3c/trace-context,
//! `SPEC_LEVEL=2 python test.py http://127.0.0.1:5000/test`.

use chassis::serve::{Ending, Limits, serve};
use chassis::{conformance, surface};
use tokio::net::TcpListener;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let _telemetry = telemetry::start("conformance", telemetry::LogFormat::Pretty)?;
    let listener = TcpListener::bind("127.0.0.1:5000").await?;
    serve(
        listener,
        surface(conformance::routes()?),
        Limits::default(),
        Ending::default(),
    )
    .await;
    Ok(())
}

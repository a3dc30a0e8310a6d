//! The payment service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    payment::service(payment::Config::from_env()).await?.run().await
}

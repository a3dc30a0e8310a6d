//! The email service.

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    email::service(email::Config::from_env()).await?.run().await
}

//! The pages: Jaeger's own UI where it is at hand, else a plain one.
//!
//! Jaeger's UI is in no package of files alone. The crate `otlp-embedded` carries a build of it, but compiles only
//! where `protoc` is installed; so cargo downloads that crate when the viewer is first used, its files are copied out,
//! and nothing of it is ever compiled or part of this workspace.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context, ensure};
use axum::Router;
use axum::response::Html;
use axum::routing::get;
use tokio::process::Command;
use tower_http::services::ServeDir;

/// From 2.15 on Jaeger's UI asks for `/api/v3`, which is not served here.
const UI_VERSION: &str = "v2.14.1";
const CARRIER: &str = "otlp-embedded";
const CARRIER_VERSION: &str = "0.0.2";
/// Three megabytes on a slow line; offline, cargo gives up by itself long before.
const DOWNLOAD: Duration = Duration::from_secs(90);

const PLAIN: Html<&str> = Html(include_str!("plain.html"));

/// Jaeger's UI from `folder` at `/` and the plain page at `/plain`; without a folder the plain page is everywhere.
pub(crate) fn pages(folder: Option<&Path>) -> anyhow::Result<Router> {
    let plain = Router::new()
        .route("/plain", get(async || PLAIN))
        .route("/plain/trace/{id}", get(async || PLAIN));
    let Some(folder) = folder else {
        return Ok(plain.fallback(async || PLAIN));
    };
    let index = index(folder)?;
    Ok(plain
        .nest_service("/static", ServeDir::new(folder.join("static")))
        .fallback(async move || Html(index)))
}

/// The page with what Jaeger's own server writes into it: links only to what is served here.
fn index(folder: &Path) -> anyhow::Result<String> {
    let page = fs::read_to_string(folder.join("index.html"))
        .with_context(|| format!("{} holds no Jaeger UI", folder.display()))?;
    let version = format!(r#"{{ "gitCommit": "", "gitVersion": "{UI_VERSION}", "buildDate": "" }}"#);
    let config = r#"{ "archiveEnabled": false, "monitor": { "menuEnabled": false } }"#;
    Ok(page
        .replace("= DEFAULT_CONFIG;", &format!("= {config};"))
        .replace("= DEFAULT_VERSION;", &format!("= {version};")))
}

/// Makes `folder` hold Jaeger's UI: at once when it does, else after a download through cargo of some three megabytes.
///
/// Fails offline; the plain page does without.
pub async fn fetch(folder: &Path) -> anyhow::Result<()> {
    if folder.join("index.html").is_file() {
        return Ok(());
    }
    let home = cargo_home()?;
    if unpacked(&home).is_none() {
        download().await?;
    }
    let files = unpacked(&home).context("cargo did not unpack Jaeger's UI")?;
    copy(&files, folder).with_context(|| format!("cannot copy Jaeger's UI to {}", folder.display()))
}

/// Lets cargo describe the crate, for which it downloads, verifies and unpacks that one crate.
async fn download() -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let described = Command::new(cargo)
        .args(["info", "--quiet", &format!("{CARRIER}@{CARRIER_VERSION}")])
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output();
    let output = tokio::time::timeout(DOWNLOAD, described)
        .await
        .context("downloading Jaeger's UI took too long")?
        .context("cannot run cargo")?;
    ensure!(
        output.status.success(),
        "cargo cannot download Jaeger's UI: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

fn cargo_home() -> anyhow::Result<PathBuf> {
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    home.or_else(|| Some(std::env::home_dir()?.join(".cargo")))
        .context("cargo has no home folder")
}

/// Where cargo has unpacked the files, if it has.
fn unpacked(cargo_home: &Path) -> Option<PathBuf> {
    let files = format!("{CARRIER}-{CARRIER_VERSION}/jaeger-ui/build");
    let registries = fs::read_dir(cargo_home.join("registry/src")).ok()?;
    let mut places = registries.flatten().map(|registry| registry.path().join(&files));
    places.find(|place| place.join("index.html").is_file())
}

/// Copies beside `to` first, so that an interrupted copy is never taken for the whole.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    let part = to.with_extension("part");
    let _ = fs::remove_dir_all(&part);
    for folder in ["", "static"] {
        fs::create_dir_all(part.join(folder))?;
        for entry in fs::read_dir(from.join(folder))?
            .flatten()
            .filter(|entry| entry.path().is_file())
        {
            fs::copy(entry.path(), part.join(folder).join(entry.file_name()))?;
        }
    }
    fs::rename(part, to)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_what_cargo_unpacked() {
        let home = std::env::temp_dir().join(format!("cargo-home-{}", std::process::id()));
        assert_eq!(unpacked(&home), None);
        let build = home.join("registry/src/index/otlp-embedded-0.0.2/jaeger-ui/build");
        fs::create_dir_all(build.join("static")).unwrap();
        fs::write(build.join("index.html"), "page").unwrap();
        fs::write(build.join("static/index.js"), "script").unwrap();

        let target = home.join("tools/jaeger-ui");
        copy(&unpacked(&home).unwrap(), &target).unwrap();

        assert_eq!(fs::read_to_string(target.join("index.html")).unwrap(), "page");
        assert_eq!(fs::read_to_string(target.join("static/index.js")).unwrap(), "script");
        fs::remove_dir_all(home).unwrap();
    }
}

//! `gorae version`.

use crate::args::{Call, Operands, Verb};
use crate::connect;
use crate::inspect::{self, FORMAT};
use crate::{output, tabwriter};
use api::client::API_VERSION;
use api::system::Version;
use serde_json::{Value, json};

pub(crate) static VERB: Verb = Verb {
    about: "Show the Gorae version information",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[FORMAT]],
    examples: &[(
        "version -f '{{.Server.Version}}'",
        "Show the engine's version alone",
    )],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let server: anyhow::Result<Version> = async {
        connect::ready(&call.client, &call.globals).await?;
        Ok(call.client.get("/version").fetch().await?)
    }
    .await;
    if call.text("format").is_some_and(|text| !text.is_empty()) {
        // without the engine the client's part is still told, and then why the other is missing
        let told = serde_json::to_value(server.as_ref().ok())?;
        let value = json!({"Client": client(), "Server": told});
        let shown = inspect::one(call.text("format"), &value);
        server?;
        shown?;
        return Ok(0);
    }
    let mut text = String::from("Client: Gorae\n");
    for (name, field) in [("Version", "Version"), ("API version", "ApiVersion")] {
        text.push_str(&format!(
            " {name}:\t{}\n",
            client()[field].as_str().unwrap_or_default()
        ));
    }
    let host = oci::Platform::host();
    text.push_str(&format!(" OS/Arch:\t{}/{}\n", host.os, host.architecture));
    match server {
        Ok(server) => {
            text.push('\n');
            text.push_str(&describe(&server));
            output::raw(tabwriter::align_with(&text, 20).as_bytes())?;
            Ok(0)
        }
        Err(error) => {
            output::raw(tabwriter::align_with(&text, 20).as_bytes())?;
            Err(error)
        }
    }
}

fn client() -> Value {
    let host = oci::Platform::host();
    json!({
        "Version": env!("CARGO_PKG_VERSION"),
        "ApiVersion": API_VERSION,
        "DefaultAPIVersion": API_VERSION,
        "Os": host.os,
        "Arch": host.architecture,
        "Context": "default",
    })
}

fn describe(server: &Version) -> String {
    let mut text = format!("Server: {}\n", server.platform.name).replace(": \n", ":\n");
    for component in &server.components {
        text.push_str(&format!(
            " {}:\n  Version:\t{}\n",
            component.name, component.version
        ));
        let details = &component.details;
        let detail = |name: &str| details.get(name).filter(|value| !value.is_empty());
        if let Some(version) = detail("ApiVersion") {
            let least = detail("MinAPIVersion")
                .map_or_else(String::new, |least| format!(" (minimum version {least})"));
            text.push_str(&format!("  API version:\t{version}{least}\n"));
        }
        for (shown, name) in [
            ("Go version", "GoVersion"),
            ("Git commit", "GitCommit"),
            ("Built", "BuildTime"),
        ] {
            if let Some(value) = detail(name) {
                text.push_str(&format!("  {shown}:\t{value}\n"));
            }
        }
        if let (Some(os), Some(arch)) = (detail("Os"), detail("Arch")) {
            text.push_str(&format!("  OS/Arch:\t{os}/{arch}\n"));
        }
        for (shown, name) in [
            ("Kernel", "KernelVersion"),
            ("Experimental", "Experimental"),
        ] {
            if let Some(value) = detail(name) {
                text.push_str(&format!("  {shown}:\t{value}\n"));
            }
        }
    }
    text
}

//! `gorae login`.

use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::output::{self, complain};
use crate::terminal::{self, Silence};
use crate::{auth, connect};
use anyhow::Context;
use api::registry::{AuthConfig, AuthResponse};
use distribution::Credentials;
use std::io::{self, BufRead, Read};

pub(crate) static VERB: Verb = Verb {
    about: "Authenticate to a registry.\nDefaults to Docker Hub if no server is specified.",
    usage: "[OPTIONS] [SERVER]",
    operands: Operands::between(0, 1),
    flags: &[&[
        Flag::one(
            "password",
            "string",
            "Password or Personal Access Token (PAT)",
        )
        .short('p'),
        Flag::switch(
            "password-stdin",
            "Take the Password or Personal Access Token (PAT) from stdin",
        ),
        Flag::one("username", "string", "Username").short('u'),
    ]],
    examples: &[
        (
            "login registry.example.org",
            "Log in, asked for name and password",
        ),
        (
            "login -u me --password-stdin registry.example.org < token",
            "Log in from a script",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

/// The name that Docker Hub has in the client's configuration.
const HUB: &str = "https://index.docker.io/v1/";
const SECRET_MAX: u64 = 64 << 10;

async fn run(call: &Call) -> anyhow::Result<u8> {
    let server = call.operands.first().map_or(HUB, String::as_str);
    let (username, password) = ask(call, server)?;
    connect::ready(&call.client, &call.globals).await?;
    let request = AuthConfig {
        username: username.clone(),
        password: password.clone(),
        server_address: server.to_owned(),
        ..AuthConfig::default()
    };
    let answer: AuthResponse = call.client.post("/auth").json(&request).fetch().await?;
    let credentials = if answer.identity_token.is_empty() {
        Credentials::basic(&username, &password)
    } else {
        Credentials {
            username,
            identity_token: answer.identity_token,
            ..Credentials::default()
        }
    };
    let mut config = auth::load(&call.globals)?;
    config.store(server, &credentials).await?;
    if !config.has_helper(server) {
        complain(format!(
            "\nWARNING! Your credentials are stored unencrypted in '{}'.\nConfigure a credential helper to remove this warning.\n",
            auth::path(&call.globals)?.display()
        ));
    }
    output::line(if answer.status.is_empty() {
        "Login Succeeded"
    } else {
        &answer.status
    })?;
    Ok(0)
}

fn ask(call: &Call, server: &str) -> anyhow::Result<(String, String)> {
    let mut username = call.text_or_empty("username");
    let mut password = call.text_or_empty("password");
    if call.given("password") {
        complain("WARNING! Using --password via the CLI is insecure. Use --password-stdin.");
        if call.on("password-stdin") {
            return Err(
                Failure::message("--password and --password-stdin are mutually exclusive").into(),
            );
        }
    }
    if call.on("password-stdin") {
        if username.is_empty() {
            return Err(Failure::message("Must provide --username with --password-stdin").into());
        }
        let mut text = String::new();
        io::stdin()
            .take(SECRET_MAX)
            .read_to_string(&mut text)
            .context("cannot read the password")?;
        text.trim_end_matches(['\r', '\n'])
            .clone_into(&mut password);
    }
    if (username.is_empty() || password.is_empty()) && !terminal::stdin_is_terminal() {
        return Err(Failure::message(
            "Error: Cannot perform an interactive login from a non TTY device\n\nGive --username and --password-stdin.",
        )
        .into());
    }
    if username.is_empty() {
        let shown = if server == HUB { "Docker Hub" } else { server };
        complain(format!("Log in to {shown}"));
        username = read_line("Username: ")?;
    }
    if password.is_empty() {
        let silence = Silence::enter().context("cannot hide the password")?;
        password = read_line("Password: ")?;
        drop(silence);
        complain("");
    }
    if username.is_empty() || password.is_empty() {
        return Err(Failure::message("Error: username and password must not be empty").into());
    }
    Ok((username, password))
}

fn read_line(question: &str) -> anyhow::Result<String> {
    output::raw(question.as_bytes())?;
    let mut line = String::new();
    io::stdin()
        .lock()
        .take(SECRET_MAX)
        .read_line(&mut line)
        .context("cannot read the terminal")?;
    Ok(line.trim().to_owned())
}

//! `gorae events`.

use super::FILTER;
use crate::args::{Call, Flag, Operands, Verb};
use crate::failure::Failure;
use crate::template::Template;
use crate::units::moment;
use crate::{connect, filter, format, output};
use api::event::Message;
use serde_json::{Value, json};

pub(crate) static VERB: Verb = Verb {
    about: "Get real time events from the server",
    usage: "[OPTIONS]",
    operands: Operands::NONE,
    flags: &[&[
        FILTER,
        Flag::one("format", "string", format::HELP_ONE),
        Flag::one("since", "string", "Show all events created since timestamp"),
        Flag::one("until", "string", "Stream events until this timestamp"),
    ]],
    examples: &[
        (
            "events --filter container=web",
            "Watch what happens to one container",
        ),
        (
            "events --since 1h --until 0s --format json",
            "Show the last hour as JSON",
        ),
    ],
    run: |call| Box::pin(run(call)),
};

async fn run(call: &Call) -> anyhow::Result<u8> {
    let template = match call.text("format").filter(|text| !text.is_empty()) {
        None => None,
        Some("json") => Some("{{json .}}"),
        Some(text) => Some(text),
    };
    let template = template
        .map(Template::parse)
        .transpose()
        .map_err(|error| Failure::with_code(format!("Error parsing format: {error}"), 64))?;
    let time = |flag: &str| -> Result<Option<String>, Failure> {
        call.text(flag)
            .map(moment)
            .transpose()
            .map_err(Failure::message)
    };
    let (since, until) = (time("since")?, time("until")?);
    let filters = filter::from_flags(call)?;
    connect::ready(&call.client, &call.globals).await?;
    let request = call
        .client
        .get("/events")
        .query_opt("since", since)
        .query_opt("until", until);
    let mut lines = request
        .query_opt("filters", filter::parameter(&filters))
        .send()
        .await?
        .lines();
    while let Some(event) = lines.next::<Message>().await? {
        let text = match &template {
            None => plain(&event),
            Some(template) => template.render(&value(&event)).map_err(|error| {
                Failure::message(format!("failed to execute template: {error}"))
            })?,
        };
        output::line(text)?;
    }
    Ok(0)
}

/// The event as its fields are named in Go, which templates use.
fn value(event: &Message) -> Value {
    let attributes = event.actor.attributes.clone().unwrap_or_default();
    json!({
        "status": event.status, "id": event.id, "from": event.from,
        "Status": event.status, "ID": event.id, "From": event.from,
        "Type": event.kind, "Action": event.action,
        "Actor": {"ID": event.actor.id, "Attributes": attributes},
        "scope": event.scope, "time": event.time, "timeNano": event.time_nano,
        "Scope": event.scope, "Time": event.time, "TimeNano": event.time_nano,
    })
}

/// `time kind action id (key=value, …)`.
fn plain(event: &Message) -> String {
    let time = if event.time_nano == 0 {
        jiff::Timestamp::from_second(event.time)
    } else {
        jiff::Timestamp::from_nanosecond(i128::from(event.time_nano))
    };
    let time = time.map_or_else(
        |_| event.time.to_string(),
        |time| time.strftime("%Y-%m-%dT%H:%M:%S.%9f+00:00").to_string(),
    );
    let mut text = format!("{time} {} {} {}", event.kind, event.action, event.actor.id);
    let attributes = event.actor.attributes.clone().unwrap_or_default();
    if !attributes.is_empty() {
        let pairs: Vec<String> = attributes
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        text.push_str(&format!(" ({})", pairs.join(", ")));
    }
    text
}

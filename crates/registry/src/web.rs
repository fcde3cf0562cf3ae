//! The page: repositories, tags, sizes and layers, as plain HTML.

use std::fmt::Write as _;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{StatusCode, header};
use oci::Digest;

use crate::auth::{Who, unauthorized};
use crate::clock;
use crate::config::Right;
use crate::document::{self, Document, Kind};
use crate::http::body::Body;
use crate::http::lists::repositories;
use crate::http::route::escape;
use crate::http::{Answer, Call, finish, not_found, reply};
use crate::ident;
use crate::name::Name;
use crate::refusal::{Code, Refusal};
use crate::store::{Reference, manifest_unknown};

/// Rows of one page.
const ROWS: usize = 100;
/// Tags of one manifest that are shown.
const TAGS: usize = 20;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}\
    table{border-collapse:collapse;width:100%}td,th{text-align:left;padding:.3em .8em .3em 0;border-bottom:1px solid #ddd;\
    vertical-align:top}td.n,th.n{text-align:right;white-space:nowrap}code{font-size:90%;word-break:break-all}\
    a{color:#06c;text-decoration:none}@media(prefers-color-scheme:dark){body{background:#181818;color:#ddd}\
    td,th{border-color:#444}a{color:#6af}}";

/// Answers a path that is none of the specification's.
pub(crate) async fn page(call: &Call, path: &str) -> Answer {
    if !call.app.config().web {
        return Err(not_found());
    }
    call.app.auth().allow_catalog(&call.who)?;
    match path {
        "/" => show(&all(call)?),
        _ => match path.strip_prefix("/r/").and_then(Name::parse) {
            Some(name) => {
                if !call.may(&name, Right::Pull) {
                    return Err(match call.who {
                        Who::Anonymous => unauthorized("authentication required"),
                        Who::User(_) | Who::Bearer(_) => not_found(),
                    });
                }
                match call.query.get("digest") {
                    Some(digest) => show(&one(call, &name, digest).await?),
                    None => show(&repository(call, &name)?),
                }
            }
            None => Err(not_found()),
        },
    }
}

fn show(content: &str) -> Answer {
    let nonce: [u8; 16] = ident::random().map_err(|error| Refusal::internal(&error))?;
    let nonce = STANDARD.encode(nonce);
    let text = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content=\"width=device-width\">\
         <title>Registry</title><style nonce=\"{nonce}\">{STYLE}</style><body>{content}</body></html>\n"
    );
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    );
    let builder = reply(StatusCode::OK)
        .header(header::CONTENT_TYPE, "text/html; charset=utf-8")
        .header(header::CONTENT_SECURITY_POLICY, policy)
        .header(header::X_CONTENT_TYPE_OPTIONS, "nosniff")
        .header(header::REFERRER_POLICY, "no-referrer")
        .header(header::CACHE_CONTROL, "no-store");
    finish(builder, Body::whole(text))
}

/// A text with all that is special in HTML escaped.
fn html(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

fn size(bytes: u64) -> String {
    const UNITS: [&str; 5] = ["B", "kB", "MB", "GB", "TB"];
    let (mut whole, mut tenths, mut unit) = (bytes, 0, 0);
    while whole >= 1000 && unit + 1 < UNITS.len() {
        tenths = whole % 1000 / 100;
        whole /= 1000;
        unit += 1;
    }
    let name = UNITS.get(unit).copied().unwrap_or_default();
    match unit {
        0 => format!("{whole} {name}"),
        _ => format!("{whole}.{tenths} {name}"),
    }
}

fn all(call: &Call) -> Result<String, Refusal> {
    let last = call.query.get("last");
    let (names, more) = repositories(call, last, ROWS)?;
    let mut text = "<h1>Repositories</h1><table><tr><th>Name<th class=n>Size".to_owned();
    for name in names.iter().filter_map(|name| Name::parse(name)) {
        let usage = call.app.store.db.read(|reader| reader.usage(Some(&name)));
        let usage = usage.map_err(|error| Refusal::internal(&error))?;
        let (shown, target) = (html(name.as_str()), html(&escape(name.as_str())));
        let _infallible = write!(
            text,
            "<tr><td><a href=\"/r/{target}\">{shown}</a><td class=n>{}",
            size(usage)
        );
    }
    text.push_str("</table>");
    if names.is_empty() {
        text.push_str("<p>There are none yet.");
    }
    if let Some(last) = names.last().filter(|_| more) {
        let _infallible = write!(
            text,
            "<p><a href=\"/?last={}\">More</a>",
            html(&escape(last))
        );
    }
    Ok(text)
}

fn repository(call: &Call, name: &Name) -> Result<String, Refusal> {
    let last = call.query.get("last");
    let read = call.app.store.db.read(|reader| {
        let mut rows = Vec::new();
        for (tag, digest, at) in reader.tags(name, last, ROWS + 1)? {
            let Some(digest) = digest else { continue };
            let record = reader.manifest(name, &digest)?;
            rows.push((tag, digest, at, record));
        }
        Ok((
            reader.has_repository(name)?,
            reader.usage(Some(name))?,
            rows,
        ))
    });
    let (known, usage, mut rows) = read.map_err(|error| Refusal::internal(&error))?;
    if !known {
        return Err(not_found());
    }
    let more = rows.len() > ROWS;
    rows.truncate(ROWS);
    let shown = html(name.as_str());
    let target = html(&escape(name.as_str()));
    let mut text = format!(
        "<p><a href=\"/\">Repositories</a><h1>{shown}</h1><p>{} in all<table><tr><th>Tag<th>Digest<th>Kind<th>Pushed",
        size(usage)
    );
    for (tag, digest, at, record) in &rows {
        let kind = record.as_ref().map(|record| html(&record.media_type));
        let _infallible = write!(
            text,
            "<tr><td>{}<td><a href=\"/r/{target}?digest={digest}\"><code>{}</code></a><td>{}<td>{}",
            html(tag),
            digest.short(),
            kind.unwrap_or_default(),
            clock::rfc3339(*at)
        );
    }
    text.push_str("</table>");
    if let Some((last, ..)) = rows.last().filter(|_| more) {
        let last = html(&escape(last));
        let _infallible = write!(text, "<p><a href=\"/r/{target}?last={last}\">More</a>");
    }
    Ok(text)
}

async fn one(call: &Call, name: &Name, digest: &str) -> Result<String, Refusal> {
    let invalid = |_| Refusal::new(Code::DigestInvalid, "invalid digest");
    let digest: Digest = digest.parse().map_err(invalid)?;
    let store = &call.app.store;
    let served = store
        .manifest(name, &Reference::Digest(digest.clone()))
        .await?;
    let told = Some(&*served.media_type);
    let unknown = |_| manifest_unknown(name, &digest);
    let document = document::parse(&served.bytes, told).map_err(unknown)?;
    let tags = store.db.read(|reader| reader.tags_of(name, &digest, TAGS));
    let tags = tags.map_err(|error| Refusal::internal(&error))?;
    let tags: Vec<String> = tags.iter().map(|tag| html(tag)).collect();
    let target = html(&escape(name.as_str()));
    let mut text = format!(
        "<p><a href=\"/\">Repositories</a> / <a href=\"/r/{target}\">{}</a><h1><code>{digest}</code></h1>\
         <p>{}<br>Tags: {}",
        html(name.as_str()),
        html(&document.media_type),
        tags.join(", ")
    );
    text.push_str(&pointers(&document, &target));
    if !document.annotations.is_empty() {
        text.push_str("<h2>Annotations</h2><table>");
        for (key, value) in &document.annotations {
            let _infallible = write!(text, "<tr><td>{}<td>{}", html(key), html(value));
        }
        text.push_str("</table>");
    }
    Ok(text)
}

/// What a document refers to, as a table.
fn pointers(document: &Document, target: &str) -> String {
    let total: u64 = document.pointers.iter().map(|pointer| pointer.size).sum();
    let title = match document.kind {
        Kind::Manifest => "Configuration and layers",
        Kind::Index => "Manifests",
    };
    let mut text = format!(
        "<h2>{title}, {}</h2><table><tr><th>Digest<th>Kind<th class=n>Size",
        size(total)
    );
    for pointer in &document.pointers {
        let digest = &pointer.digest;
        let shown = match pointer.is_document() {
            true => format!("<a href=\"/r/{target}?digest={digest}\"><code>{digest}</code></a>"),
            false => format!("<code>{digest}</code>"),
        };
        let _infallible = write!(
            text,
            "<tr><td>{shown}<td>{}<td class=n>{}",
            html(&pointer.media_type),
            size(pointer.size)
        );
    }
    text.push_str("</table>");
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_of_a_client_is_markup() {
        let text = "<script>alert('x')</script>&\"\u{1b}";
        let shown = html(text);
        assert_eq!(
            shown,
            "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;&amp;&quot;\u{fffd}"
        );
    }

    #[test]
    fn sizes() {
        assert_eq!(size(999), "999 B");
        assert_eq!(size(1000), "1.0 kB");
        assert_eq!(size(1_234_567), "1.2 MB");
        assert_eq!(size(u64::MAX), "18446744.0 TB");
    }
}

//! One line of comma-separated values, as Go's `encoding/csv` reads it for Docker's clients.

/// The fields of one line; a field may be quoted, with doubled quotes inside.
///
/// # Errors
/// With Go's words where a quote is out of place, and `EOF` for nothing at all.
pub(crate) fn fields(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        return Err("EOF".to_owned());
    }
    let mut fields = Vec::new();
    let mut at = 0;
    loop {
        let (field, end) = match text[at..].strip_prefix('"') {
            Some(_) => quoted(text, at + 1)?,
            None => bare(text, at)?,
        };
        fields.push(field);
        if end == text.len() {
            return Ok(fields);
        }
        at = end + 1;
    }
}

/// The same, where nothing at all is no fields: a flag that takes a list and got an empty text.
pub(crate) fn list(text: &str) -> Result<Vec<String>, String> {
    if text.is_empty() {
        Ok(Vec::new())
    } else {
        fields(text)
    }
}

/// A field without quotes, and where its comma or the end is.
fn bare(text: &str, start: usize) -> Result<(String, usize), String> {
    let end = text[start..]
        .find(',')
        .map_or(text.len(), |comma| start + comma);
    match text[start..end].find('"') {
        Some(quote) => Err(misplaced(start + quote, "bare \" in non-quoted-field")),
        None => Ok((text[start..end].to_owned(), end)),
    }
}

/// A field whose opening quote was read, and where its comma or the end is.
fn quoted(text: &str, start: usize) -> Result<(String, usize), String> {
    const WRONG: &str = "extraneous or missing \" in quoted-field";
    let mut field = String::new();
    let mut at = start;
    loop {
        let Some(length) = text[at..].find('"') else {
            return Err(misplaced(text.len(), WRONG));
        };
        let quote = at + length;
        field.push_str(&text[at..quote]);
        match text.as_bytes().get(quote + 1) {
            Some(b'"') => field.push('"'),
            Some(b',') | None => return Ok((field, quote + 1)),
            Some(_) => return Err(misplaced(quote, WRONG)),
        }
        at = quote + 2;
    }
}

fn misplaced(index: usize, what: &str) -> String {
    format!("parse error on line 1, column {}: {what}", index + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines() {
        let check = |text: &str, expect: Result<&[&str], &str>| {
            let expect = expect
                .map(|fields| fields.iter().map(|field| (*field).to_owned()).collect())
                .map_err(str::to_owned);
            assert_eq!(fields(text), expect, "{text}");
        };
        check("a", Ok(&["a"]));
        check("a,b", Ok(&["a", "b"]));
        check(",", Ok(&["", ""]));
        check("\"a,b\",c", Ok(&["a,b", "c"]));
        check("\"a\"\"b\"", Ok(&["a\"b"]));
        check("\"\",", Ok(&["", ""]));
        check("", Err("EOF"));
        // the columns are those that Docker's client names
        check(
            "a\"b",
            Err("parse error on line 1, column 2: bare \" in non-quoted-field"),
        );
        check(
            "a,b\"c",
            Err("parse error on line 1, column 4: bare \" in non-quoted-field"),
        );
        let wrong = |column: usize| {
            format!(
                "parse error on line 1, column {column}: extraneous or missing \" in quoted-field"
            )
        };
        check("\"a\"b", Err(&wrong(3)));
        check("\"10", Err(&wrong(4)));
        assert_eq!(list(""), Ok(Vec::new()));
    }
}

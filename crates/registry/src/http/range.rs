//! The `Range` of a request (RFC 9110, section 14).

/// How many ranges one request may ask for.
const RANGES_MAX: usize = 16;

/// What of a blob is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it.
    All,
    /// Pieces: where each begins, and how long it is.
    Pieces(Vec<(u64, u64)>),
    /// Nothing that it has.
    Nothing,
}

/// Reads the header. What is no range of bytes is ignored, as the RFC says; so are requests that ask for
/// more than the whole.
pub(crate) fn wanted(header: Option<&str>, size: u64) -> Wanted {
    let Some(list) = header.and_then(|text| text.trim().strip_prefix("bytes=")) else {
        return Wanted::All;
    };
    let mut pieces = Vec::new();
    for (count, text) in list.split(',').enumerate() {
        match (count < RANGES_MAX)
            .then(|| piece(text.trim(), size))
            .flatten()
        {
            None => return Wanted::All,
            Some(found) => pieces.extend(found),
        }
    }
    let total: u64 = pieces.iter().map(|(_, length)| *length).sum();
    if pieces.is_empty() {
        Wanted::Nothing
    } else if pieces.len() > 1 && total > size {
        Wanted::All
    } else {
        Wanted::Pieces(pieces)
    }
}

/// One range: `None` where it is none, `Some(None)` where the blob has nothing of it.
fn piece(text: &str, size: u64) -> Option<Option<(u64, u64)>> {
    let (first, last) = text.split_once('-')?;
    if first.is_empty() {
        let length = number(last)?.min(size);
        return Some((length > 0).then_some((size - length, length)));
    }
    let first = number(first)?;
    let last = match last {
        "" => u64::MAX,
        last => number(last)?,
    };
    if last < first {
        return None;
    }
    let end = last.saturating_add(1).min(size);
    Some((first < size).then(|| (first, end - first)))
}

fn number(text: &str) -> Option<u64> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    // a number that no file reaches
    digits.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let check = |text: &str, expect: Wanted| {
            assert_eq!(wanted(Some(text), 10), expect, "{text}");
        };
        let one = |start, length| Wanted::Pieces(vec![(start, length)]);
        check("bytes=0-3", one(0, 4));
        check("bytes=0-0", one(0, 1));
        check("bytes=5-", one(5, 5));
        check("bytes=-3", one(7, 3));
        check("bytes=-30", one(0, 10));
        check("bytes=2-99", one(2, 8));
        check("bytes=9-99999999999999999999999", one(9, 1));
        check("bytes=10-", Wanted::Nothing);
        check("bytes=99999999999999999999999-", Wanted::Nothing);
        check("bytes=-0", Wanted::Nothing);
        check("bytes=0-1, 4-5", Wanted::Pieces(vec![(0, 2), (4, 2)]));
        check("bytes=0-1,20-30", one(0, 2));
        check("bytes=0-9,0-9", Wanted::All);
        for bad in [
            "bytes=",
            "bytes=a-b",
            "bytes=3-2",
            "bytes=-",
            "bytes=+1-2",
            "lines=0-1",
            "0-1",
        ] {
            check(bad, Wanted::All);
        }
        check(&format!("bytes={}", ["0-0"; 17].join(",")), Wanted::All);
        assert_eq!(wanted(None, 10), Wanted::All);
        assert_eq!(wanted(Some("bytes=0-"), 0), Wanted::Nothing);
    }
}

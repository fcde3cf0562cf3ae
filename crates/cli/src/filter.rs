//! `--filter key=value`.

use crate::args::Call;
use crate::failure::Failure;
use api::Filters;

/// The filters of a command line.
pub(crate) fn from_flags(call: &Call) -> Result<Filters, Failure> {
    let mut filters = Filters::default();
    for text in call
        .list("filter")
        .into_iter()
        .filter(|text| !text.is_empty())
    {
        let Some((key, value)) = text.split_once('=') else {
            return Err(call.invalid("filter", text, "bad format of filter (expected name=value)"));
        };
        filters.add(key.trim().to_ascii_lowercase(), value.trim());
    }
    Ok(filters)
}

/// The parameter of a request, where there are filters.
pub(crate) fn parameter(filters: &Filters) -> Option<String> {
    (!filters.is_empty()).then(|| filters.to_param())
}

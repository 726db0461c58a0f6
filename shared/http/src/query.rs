//! Query parameters: their parsing, and pages of records.

use std::borrow::Cow;

use crate::problem::Problem;

/// The most records on a page.
const PAGE_MAX: u32 = 1_000;
/// The number of records on a page whose request has no `limit`.
const PAGE_DEFAULT: u32 = 100;

/// Names and values.
type Parameters<'a> = Vec<(Cow<'a, str>, Cow<'a, str>)>;

/// The parameters of a query, decoded.
///
/// # Errors
/// A parameter is there twice: one of its values would be ignored.
pub(crate) fn parameters(query: Option<&str>) -> Result<Parameters<'_>, Problem> {
    let mut parameters = Parameters::new();
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if parameters.iter().any(|(earlier, _)| *earlier == name) {
            return Err(Problem::invalid(&*name, format!("{name} must be sent only once")));
        }
        // An unknown parameter is refused, so a query has only a few.
        parameters.push((name, value));
    }
    Ok(parameters)
}

/// The problem of a parameter that the operation does not have. `known` lists those that it has.
pub(crate) fn unknown(name: &str, known: &str) -> Problem {
    Problem::invalid(name, format!("unknown parameter {name:?}; the parameters are: {known}"))
}

/// The number of records on a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageLimit(u32);

/// Records of one page.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Page<T, N> {
    pub(crate) rows: Vec<T>,
    /// The `after` of the next page; `None` on the last one.
    pub(crate) next: Option<N>,
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(PAGE_DEFAULT)
    }
}

impl PageLimit {
    /// Parses the parameter `limit`.
    pub(crate) fn parse(value: &str) -> Result<Self, Problem> {
        // `parse` alone would also accept a plus sign.
        let digits = Some(value).filter(|value| value.bytes().all(|byte| byte.is_ascii_digit()));
        let limit = digits.and_then(|digits| digits.parse().ok());
        limit.filter(|limit| (1..=PAGE_MAX).contains(limit)).map(Self).ok_or_else(|| {
            Problem::invalid(
                "limit",
                format!("limit must be a whole number from 1 to {PAGE_MAX}, got {value:?}"),
            )
        })
    }

    /// The number of records to read: one more than the page has, to learn whether there is a next page.
    pub(crate) fn rows_to_read(self) -> u32 {
        self.0 + 1
    }
}

/// Makes a page of the rows that were read (up to [`PageLimit::rows_to_read`]). `id` is the place of a row, after which
/// the next page starts.
pub(crate) fn page<T, N>(mut rows: Vec<T>, limit: PageLimit, id: impl FnOnce(&T) -> N) -> Page<T, N> {
    let limit = limit.0 as usize;
    let has_next = rows.len() > limit;
    rows.truncate(limit);
    let next = if has_next { rows.last().map(id) } else { None };
    Page { rows, next }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_full_page_with_more_records_has_a_next_page() {
        let limit = PageLimit::parse("2").unwrap();
        assert_eq!(limit.rows_to_read(), 3);
        assert_eq!(page(vec![1, 2, 3], limit, |row| row * 10), Page { rows: vec![1, 2], next: Some(20) });
        assert_eq!(page(vec![1, 2], limit, |row| row * 10), Page { rows: vec![1, 2], next: None });
        assert_eq!(page(Vec::<i32>::new(), limit, |row| row * 10), Page { rows: vec![], next: None });
    }

    #[test]
    fn a_repeated_parameter_is_refused() {
        assert_eq!(parameters(Some("limit=1&after=a%2Fb")).unwrap()[1].1, "a/b");
        assert!(parameters(Some("limit=1&limit=1")).is_err() && parameters(Some("a=1&%61=2")).is_err());
    }

    #[test]
    fn limits_outside_of_1_to_1000_are_refused() {
        for limit in ["0", "1001", "-1", "+1", "1.0", " 1", "ten", ""] {
            assert!(PageLimit::parse(limit).is_err(), "{limit}");
        }
        assert!(PageLimit::parse("1").is_ok() && PageLimit::parse("1000").is_ok());
    }
}

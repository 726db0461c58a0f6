//! JSON numbers by their text, without the rounding of binary floating point.

/// The value of a JSON number: `digits * 10^exponent`, negative or not. Two numbers have the same value exactly if
/// their decimals are equal, except that -0 and 0 differ, as they do in IEEE 754.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Decimal {
    negative: bool,
    /// ASCII digits without zeros at either end; empty for zero.
    digits: String,
    exponent: i64,
}

impl Decimal {
    /// Parses a number of JSON's grammar; `None` if its exponent exceeds 64 bits, or if it is not a number.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (negative, text) = match text.strip_prefix('-') {
            Some(rest) => (true, rest),
            None => (false, text),
        };
        let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits = format!("{whole}{fraction}");
        if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
            return None;
        }
        let without_end = digits.trim_end_matches('0');
        if without_end.is_empty() {
            return Some(Self { negative, digits: String::new(), exponent: 0 });
        }
        let cut = i64::try_from(digits.len() - without_end.len()).ok()?;
        let fraction = i64::try_from(fraction.len()).ok()?;
        let exponent = exponent.parse::<i64>().ok()?.checked_sub(fraction)?.checked_add(cut)?;
        Some(Self { negative, digits: without_end.trim_start_matches('0').to_owned(), exponent })
    }

    /// The number of significant digits.
    pub(crate) fn precision(&self) -> usize {
        self.digits.len()
    }
}

/// The value of a JSON number that is a whole number, however it is written: `300`, `300.0` and `3e2` are the same.
/// `None` if it is negative, has a fraction, or exceeds 64 bits.
pub fn whole_number(text: &str) -> Option<u64> {
    if let Ok(number) = text.parse() {
        // `parse` also accepts a plus sign, which JSON does not.
        return text.starts_with(|first: char| first.is_ascii_digit()).then_some(number);
    }
    let Decimal { negative, digits, exponent } = Decimal::parse(text)?;
    if digits.is_empty() {
        return Some(0);
    }
    let zeros = usize::try_from(exponent).ok().filter(|zeros| *zeros < 20)?;
    if negative { None } else { format!("{digits}{}", "0".repeat(zeros)).parse().ok() }
}

/// The float that version 0.2 made of a JSON number: `serde_json`'s, without its features for exact numbers, which any
/// crate of a build may switch on. It is exact for decimals of up to 15 digits and small exponents. `None` if it is not
/// finite: version 0.2 refused such a number.
pub(crate) fn float_of_version_0_2(text: &str) -> Option<f64> {
    let (mantissa, exponent) = text.split_once(['e', 'E']).unwrap_or((text, "0"));
    let (whole, fraction) = mantissa.trim_start_matches('-').split_once('.').unwrap_or((mantissa, ""));
    // An exponent that does not fit is infinite, except that zero stays zero.
    let unbounded = if exponent.starts_with('-') { i32::MIN / 2 } else { i32::MAX / 2 };
    let mut exponent: i32 = exponent.parse().unwrap_or(unbounded).clamp(i32::MIN / 2, i32::MAX / 2);
    let mut significand: u64 = 0;
    let mut is_full = false;
    let whole = whole.trim_start_matches('-').bytes().map(|digit| (digit, 0));
    for (digit, scale) in whole.chain(fraction.bytes().map(|digit| (digit, -1))) {
        let next = significand.checked_mul(10).and_then(|tens| tens.checked_add(u64::from(digit - b'0')));
        if let Some(next) = next.filter(|_| !is_full) {
            significand = next;
            exponent = exponent.checked_add(scale)?;
        } else {
            // The digits behind the first that does not fit are dropped.
            is_full = true;
            exponent = exponent.checked_add(1 + scale)?;
        }
    }
    #[expect(clippy::cast_precision_loss, reason = "this is where version 0.2 rounded")]
    let mut float = significand as f64;
    while exponent != 0 && float != 0.0 && float.is_finite() {
        let step = exponent.unsigned_abs().min(308);
        let power: f64 = format!("1e{step}").parse().ok()?;
        let step = i32::try_from(step).ok()?;
        if exponent > 0 {
            float *= power;
            exponent -= step;
        } else {
            float /= power;
            exponent += step;
        }
    }
    float.is_finite().then_some(if text.starts_with('-') { -float } else { float })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decimals_are_equal_if_their_values_are() {
        let equal = |a, b| Decimal::parse(a) == Decimal::parse(b);
        for (a, b) in [
            ("1.50", "15e-1"),
            ("100", "1E+2"),
            ("0.0", "0e99999999999999999999"),
            ("-2.5e-3", "-0.0025"),
            ("44442.0", "44442"),
        ] {
            assert!(Decimal::parse(a).is_some() && equal(a, b), "{a} {b}");
        }
        for (a, b) in [
            ("0", "-0"),
            ("1", "-1"),
            ("117.63331139400017", "117.63331139400016"),
            ("18446744073709551616", "1.8446744073709552e+19"),
            ("1e400", "1e401"),
        ] {
            assert!(!equal(a, b), "{a} {b}");
        }
        assert_eq!(Decimal::parse("1e99999999999999999999"), None);
        for text in ["", "-", ".", "x", "1x", "+1"] {
            assert_eq!(Decimal::parse(text), None, "{text:?}");
        }
    }

    #[test]
    fn floats_are_those_of_version_0_2() {
        for (text, float) in [
            ("1.5", 1.5),
            ("-0", -0.0),
            ("1e2", 100.0),
            ("44442.0", 44_442.0),
            ("18446744073709551616", 1.844_674_407_370_955_2e19),
            // Not the nearest float, which is 117.63331139400017.
            ("117.63331139400017", 117.633_311_394_000_16),
            ("1e-400", 0.0),
            ("0e99999999999999999999", 0.0),
            ("1e-99999999999999999999", 0.0),
            ("1e308", 1e308),
        ] {
            assert_eq!(float_of_version_0_2(text).map(f64::to_bits), Some(f64::to_bits(float)), "{text}");
        }
        assert_eq!(float_of_version_0_2("1e309"), None);
        assert_eq!(float_of_version_0_2("1e99999999999999999999"), None);
    }

    #[test]
    fn a_whole_number_may_be_written_with_a_fraction_of_zero() {
        for (text, number) in [
            ("0", 0),
            ("-0", 0),
            ("-0.0", 0),
            ("300.0", 300),
            ("3e2", 300),
            ("300000e-3", 300),
            ("44442.0", 44_442),
            ("9007199254740993.0", 9_007_199_254_740_993),
            ("18446744073709551615", u64::MAX),
            ("1844674407370955161.5e1", u64::MAX),
        ] {
            assert_eq!(whole_number(text), Some(number), "{text}");
        }
        for text in [
            "-1",
            "1.5",
            "44442.00000000000000000001",
            "1e-1",
            "18446744073709551616",
            "1e400",
            "+1",
            "",
            "x",
            "1e99999999999999999999",
        ] {
            assert_eq!(whole_number(text), None, "{text}");
        }
    }
}

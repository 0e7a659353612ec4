//! Vectors for every form of waiting.

use super::*;

/// 2026-11-20T11:40:21Z.
const NOW: i64 = 1_795_174_821;

fn seconds(text: &str) -> Option<f64> {
    delay(text, Some(NOW)).map(|wait| wait.as_secs_f64())
}

#[test]
fn reads_every_form_of_a_delay() {
    let rows = [
        ("20", 20.0),
        ("0", 0.0),
        (" 1.5 ", 1.5),
        ("33011.38", 33_011.38),
        ("6s", 6.0),
        ("1.57s", 1.57),
        ("6m0s", 360.0),
        ("120ms", 0.12),
        ("1h2m3.5s", 3_723.5),
        ("2d", 172_800.0),
        ("9m38.016s", 578.016),
        ("1795174831", 10.0),
        ("1795174831500", 10.5),
        ("2026-11-20T11:40:27Z", 6.0),
        ("2026-11-20T12:40:27+01:00", 6.0),
        ("Fri, 20 Nov 2026 11:41:21 GMT", 60.0),
    ];

    for (text, expected) in rows {
        assert!((seconds(text).unwrap() - expected).abs() < 1e-3, "{text}: {:?}", seconds(text));
    }
}

#[test]
fn ignores_what_makes_no_sense() {
    let rows = [
        "",
        "-1",
        "NaN",
        "inf",
        "-inf",
        "soon",
        "5 apples",
        "s",
        "1x",
        "1.2.3s",
        "315360000",
        "33d",
        "1795174820",
        "1000000000000",
        "2020-01-01T00:00:00Z",
        "Wed, 21 Oct 2015 07:28:00 GMT",
        "9999-12-31T23:59:59Z",
        "1e300",
    ];

    for text in rows {
        assert_eq!(seconds(text), None, "{text}");
    }
    assert_eq!(delay("1795174831", None), None);
}

#[test]
fn finds_delays_in_sentences() {
    let rows = [
        ("Limit 100000, Used 97050, Requested 3619. Please try again in 9m38.016s. Need more tokens?", 578.016),
        ("limit: 5\nPlease retry in 25.465784708s.", 25.465_784_708),
        ("Please try again in 20s. Visit us", 20.0),
        ("Please try again in 120ms.", 0.12),
        ("Try again in 5 minutes.", 300.0),
        ("retry after 2 hours", 7_200.0),
        ("Please retry after 30. Thanks", 30.0),
        ("please wait 7 seconds", 7.0),
    ];

    for (text, expected) in rows {
        assert!((delay_in_text(text).unwrap().as_secs_f64() - expected).abs() < 1e-6, "{text}");
    }
    for text in ["", "Please try again", "try again in a moment", "retry in -5s", "try again in 99 days"] {
        assert_eq!(delay_in_text(text), None, "{text}");
    }
}

fn headers(rows: &[(&'static str, &'static str)]) -> HeaderMap {
    rows.iter()
        .map(|(name, value)| (http::HeaderName::from_static(name), http::HeaderValue::from_static(value)))
        .collect()
}

fn told_by(rows: &[(&'static str, &'static str)]) -> Option<Duration> {
    told(&headers(rows), &Body::default(), Some(NOW), Class::Rate)
}

#[test]
fn the_plainest_word_wins() {
    assert_eq!(told_by(&[("retry-after-ms", "250"), ("retry-after", "9")]), Some(Duration::from_millis(250)));
    assert_eq!(told_by(&[("retry-after", "-1"), ("x-ratelimit-reset-tokens", "3s")]), Some(Duration::from_secs(3)));
    assert_eq!(told_by(&[("retry-after-ms", "NaN"), ("retry-after", "9")]), Some(Duration::from_secs(9)));
}

#[test]
fn of_several_resets_that_of_the_spent_limit_counts() {
    let both = [("x-ratelimit-reset-requests", "2m"), ("x-ratelimit-reset-tokens", "3s")];

    assert_eq!(told_by(&both), Some(Duration::from_secs(3)));
    assert_eq!(told_by(&[both[0], both[1], ("x-ratelimit-remaining-requests", "0")]), Some(Duration::from_secs(120)));
    assert_eq!(told_by(&[("x-ratelimit-reset", "1795174831000")]), Some(Duration::from_secs(10)));
}

#[test]
fn knows_which_limit_is_spent() {
    let rows = [("x-ratelimit-remaining-requests", "0")];

    assert_eq!(exhausted(&headers(&rows), Limits::Minute), Exhausted::Short);
    assert_eq!(exhausted(&headers(&rows), Limits::DailyRequests), Exhausted::Long);
    assert_eq!(exhausted(&headers(&[("x-ratelimit-remaining-tokens-month", "0")]), Limits::Minute), Exhausted::Long);
    assert_eq!(exhausted(&headers(&[("x-ratelimit-remaining-tokens", "7")]), Limits::Minute), Exhausted::Unknown);
}

#[test]
fn days_end_with_the_clocks_of_california() {
    // 2026-11-01 has 25 hours there, 2027-03-14 has 23.
    let rows = [
        ("2026-10-31T12:00:00Z", "2026-11-01T07:00:00Z"),
        ("2026-11-01T07:00:00Z", "2026-11-02T08:00:00Z"),
        ("2027-03-13T20:00:00Z", "2027-03-14T08:00:00Z"),
        ("2027-03-14T08:00:00Z", "2027-03-15T07:00:00Z"),
    ];

    for (now, midnight) in rows {
        let [now, midnight] = [now, midnight].map(|text| text.parse::<jiff::Timestamp>().unwrap().as_second());

        assert_eq!(reset::until_pacific_midnight(now).map(|wait| wait.as_secs()), u64::try_from(midnight - now).ok());
    }
    assert_eq!(reset::until_utc_midnight(NOW), Some(Duration::from_secs(44_379)));
}

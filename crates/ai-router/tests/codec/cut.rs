//! Streams that break off, and streams that arrive in odd pieces.

use manifold_ai_router::classify::Class;

use crate::collect::{answer, pieces};
use crate::fixtures;

#[test]
fn a_cut_at_any_byte_is_a_failure_or_the_whole_answer() {
    let mut n_cuts = 0;
    for fixture in fixtures::streams() {
        let whole = answer(&pieces(fixture.codec(), [fixture.body.as_slice()]).unwrap());

        for end in 0..fixture.body.len() {
            match pieces(fixture.codec(), [&fixture.body[..end]]) {
                Ok(pieces) => {
                    assert_eq!(
                        answer(&pieces).choices,
                        whole.choices,
                        "{} cut at {end} lost something",
                        fixture.path()
                    );
                }
                Err(failure) => assert_eq!(failure.class, Class::Interrupted, "{} cut at {end}", fixture.path()),
            }
            n_cuts += 1;
        }
    }
    assert!(n_cuts > 10_000, "only {n_cuts} cuts");
}

#[test]
fn a_failing_stream_fails_wherever_it_is_cut() {
    for fixture in fixtures::all().iter().filter(|fixture| fixture.is_stream() && fixture.name.starts_with("fail_")) {
        for end in 0..=fixture.body.len() {
            assert!(
                pieces(fixture.codec(), [&fixture.body[..end]]).is_err(),
                "{} cut at {end} passes for an answer",
                fixture.path()
            );
        }
    }
}

#[test]
fn every_provider_of_the_first_five_has_streams_to_cut() {
    let providers: Vec<String> = fixtures::streams().into_iter().map(|fixture| fixture.provider).collect();

    for id in ["groq", "mistral", "gemini", "openrouter", "ollama"] {
        assert!(providers.iter().filter(|provider| *provider == id).count() >= 2, "{id}");
    }
}

#[test]
fn reads_of_any_size_give_the_same_pieces() {
    for fixture in fixtures::streams() {
        let whole = pieces(fixture.codec(), [fixture.body.as_slice()]).unwrap();

        for size in [1, 2, 3, 7, 64] {
            let split = pieces(fixture.codec(), fixture.body.chunks(size)).unwrap();

            assert_eq!(split, whole, "{} in reads of {size}", fixture.path());
        }
    }
}

#[test]
fn a_missing_last_line_end_loses_nothing() {
    for fixture in fixtures::streams() {
        let whole = pieces(fixture.codec(), [fixture.body.as_slice()]).unwrap();

        let bare = pieces(fixture.codec(), [fixture.body.trim_ascii_end()]).unwrap();

        assert_eq!(bare, whole, "{}", fixture.path());
    }
}

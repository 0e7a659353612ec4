//! The same calls over both paths: shapes, deadlines, panics, errors, late routes.

use std::time::Duration;

use futures::future::join_all;
use futures::{StreamExt, TryStreamExt, stream};
use manifold_core::Code;
use manifold_runtime::{CallContext, Mesh, MeshConfig, from_status, request};
use tokio::time::Instant;

use crate::echo::v1::{RepeatRequest, SumRequest, TalkRequest};
use crate::echo::{self, Path, caller, say, say_within};

const SHORT: Duration = Duration::from_millis(50);

fn repeat(count: u32, then: &str, time: Duration) -> tonic::Request<RepeatRequest> {
    let context = CallContext { deadline: Instant::now() + time, ..caller() };
    request(RepeatRequest { count, then: then.to_owned() }, context)
}

#[tokio::test]
async fn one_question_gets_one_answer() {
    for path in Path::both().await {
        let answer = path.client().say(say("hello")).await.unwrap();

        assert_eq!(answer.into_inner().text, "hello", "{}", path.name);
    }
}

#[tokio::test]
async fn one_question_gets_many_answers() {
    for path in Path::both().await {
        let answers = path.client().repeat(repeat(1_000, "", Duration::from_secs(30))).await.unwrap().into_inner();

        let numbers: Vec<u32> = answers.map(|answer| answer.unwrap().number).collect().await;

        assert_eq!(numbers, (0..1_000).collect::<Vec<_>>(), "{}", path.name);
    }
}

#[tokio::test]
async fn many_questions_get_one_answer() {
    for path in Path::both().await {
        let numbers = stream::iter((1..=100).map(|number| SumRequest { number }));

        let answer = path.client().sum(request(numbers, caller())).await.unwrap();

        assert_eq!(answer.into_inner().sum, 5_050, "{}", path.name);
    }
}

#[tokio::test]
async fn a_conversation_goes_both_ways() {
    for path in Path::both().await {
        let words = stream::iter(["one", "two"].map(|text| TalkRequest { text: text.to_owned() }));

        let answers = path.client().talk(request(words, caller())).await.unwrap().into_inner();

        let heard: Vec<String> = answers.map(|answer| answer.unwrap().text).collect().await;
        assert_eq!(heard, ["ONE", "TWO"], "{}", path.name);
    }
}

#[tokio::test]
async fn the_caller_arrives() {
    for path in Path::both().await {
        let answer = path.client().say(say("who")).await.unwrap();

        assert_eq!(answer.into_inner().text, format!("key_ana {}", caller().request), "{}", path.name);
    }
}

#[tokio::test]
async fn a_call_that_hangs_ends_at_its_deadline() {
    for path in Path::both().await {
        let started_at = Instant::now();

        let status = path.client().say(say_within("hang", SHORT)).await.unwrap_err();

        let error = from_status(status);
        assert_eq!((error.code(), error.reason()), (Code::Timeout, "DEADLINE_EXCEEDED"), "{}", path.name);
        assert!(started_at.elapsed() >= SHORT);
    }
}

#[tokio::test]
async fn a_stream_that_hangs_ends_at_its_deadline() {
    for path in Path::both().await {
        let mut answers = path.client().repeat(repeat(1, "hang", SHORT)).await.unwrap().into_inner();

        let first = answers.try_next().await.unwrap();
        let status = answers.try_next().await.unwrap_err();

        assert!(first.is_some(), "{}", path.name);
        assert_eq!(from_status(status).code(), Code::Timeout, "{}", path.name);
    }
}

#[tokio::test]
async fn a_panic_is_an_internal_error() {
    for path in Path::both().await {
        let client = path.client();

        let status = client.say(say("panic")).await.unwrap_err();

        assert_eq!(from_status(status).code(), Code::Internal, "{}", path.name);
        assert!(client.say(say("still there?")).await.is_ok(), "{}", path.name);
    }
}

#[tokio::test]
async fn a_panic_inside_a_stream_ends_it_with_an_internal_error() {
    for path in Path::both().await {
        let answers = path.client().repeat(repeat(1, "panic", Duration::from_secs(30))).await.unwrap().into_inner();

        let last = answers.collect::<Vec<_>>().await.pop();

        let status = last.unwrap().unwrap_err();
        assert_eq!(from_status(status).code(), Code::Internal, "{}", path.name);
    }
}

#[tokio::test]
async fn an_error_arrives_with_everything_it_says() {
    for path in Path::both().await {
        let status = path.client().say(say("fail")).await.unwrap_err();

        let error = from_status(status);
        assert_eq!((error.code(), error.reason()), (Code::Exhausted, "RATE_LIMIT_EXCEEDED"), "{}", path.name);
        assert_eq!((error.param(), error.delay()), (Some("text"), Some(Duration::from_secs(2))), "{}", path.name);
        assert_eq!(error.facts()["provider"], "echo", "{}", path.name);
    }
}

#[tokio::test]
async fn routes_may_be_provided_after_the_channel_was_taken() {
    let mesh = Mesh::new(MeshConfig::default()).unwrap();
    let client = echo::v1::echo::Client::new(mesh.channel("echo"));

    let before = client.say(say("hello")).await.unwrap_err();
    mesh.provide("echo", echo::routes());
    let after = client.say(say("hello")).await;

    assert_eq!(from_status(before).code(), Code::Unavailable);
    assert!(after.is_ok());
}

#[tokio::test]
async fn a_service_that_is_away_is_unavailable_and_listed() {
    let (address, tasks) = echo::serve(echo::SECRET).await;
    let mesh = echo::mesh_to(&address, echo::SECRET);
    let client = echo::v1::echo::Client::new(mesh.channel("echo"));

    let reachable = mesh.unreachable().await;
    client.say(say("hello")).await.unwrap();
    tasks.shutdown(Duration::from_secs(5)).await;
    let status = client.say(say("hello")).await.unwrap_err();

    assert_eq!(reachable, Vec::<String>::new());
    assert_eq!(from_status(status).code(), Code::Unavailable);
    assert_eq!(mesh.unreachable().await, ["echo"]);
}

#[tokio::test]
async fn shutdown_lets_running_calls_end() {
    let (address, tasks) = echo::serve(echo::SECRET).await;
    let mesh = echo::mesh_to(&address, echo::SECRET);
    let client = echo::v1::echo::Client::new(mesh.channel("echo"));
    let mut answers = client.repeat(repeat(1, "hang", Duration::from_millis(300))).await.unwrap().into_inner();
    answers.try_next().await.unwrap();

    let (ended, rest) = tokio::join!(tasks.shutdown(Duration::from_secs(5)), answers.try_next());

    assert!(ended);
    assert_eq!(from_status(rest.unwrap_err()).code(), Code::Timeout);
}

#[tokio::test]
async fn many_streams_share_one_connection() {
    let path = Path::remote().await;
    let mut open = Vec::new();
    for _ in 0..1_000 {
        open.push(path.client().repeat(repeat(1, "hang", Duration::from_secs(30))).await.unwrap().into_inner());
    }

    let firsts = join_all(open.iter_mut().map(TryStreamExt::try_next)).await;

    assert!(firsts.iter().all(|first| matches!(first, Ok(Some(_)))));
}

#[tokio::test]
async fn callers_that_vanish_in_a_crowd_leave_the_connection_usable() {
    let path = Path::remote().await;
    for _ in 0..20 {
        let crowd = (0..100).map(|_| {
            let client = path.client();
            async move { client.say(say("hang")).await }
        });
        let vanished = tokio::time::timeout(Duration::from_millis(1), join_all(crowd)).await;
        assert!(vanished.is_err());
    }

    let answer = path.client().say(say("still there?")).await;

    assert!(answer.is_ok(), "{answer:?}");
}

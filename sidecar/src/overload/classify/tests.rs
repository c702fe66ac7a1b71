use std::io;
use std::net::SocketAddr;

use http::StatusCode;
use proptest::prelude::*;

use super::*;
use crate::http::body::BodyError;
use crate::overload::SampleOutcome;

fn addr() -> SocketAddr {
    "10.0.0.7:8080".parse().unwrap()
}

fn errors() -> Vec<UpstreamError> {
    let addr = addr();
    let after = Duration::from_secs(1);
    let detail = String::new();
    vec![
        UpstreamError::Connect {
            addr,
            source: io::ErrorKind::ConnectionRefused.into(),
        },
        UpstreamError::ConnectTimeout { addr, after },
        UpstreamError::NotSent { addr },
        UpstreamError::RefusedStream { addr },
        UpstreamError::GoAway { addr },
        UpstreamError::Reset {
            addr,
            reason: None,
            detail: detail.clone(),
        },
        UpstreamError::AttemptTimeout { addr, after },
        UpstreamError::Malformed { addr, detail },
        UpstreamError::RequestBody(BodyError::Superseded),
    ]
}

fn answer(status: u16) -> End<'static> {
    End::Answered(Answer {
        status: StatusCode::from_u16(status).unwrap(),
        grpc_status: None,
        pushback: Pushback::None,
        is_refusal_of_weir: false,
    })
}

fn grpc(grpc_status: u16) -> End<'static> {
    End::Answered(Answer {
        status: StatusCode::OK,
        grpc_status: Some(grpc_status),
        pushback: Pushback::None,
        is_refusal_of_weir: false,
    })
}

fn with_pushback(pushback: Pushback) -> End<'static> {
    End::Answered(Answer {
        status: StatusCode::SERVICE_UNAVAILABLE,
        grpc_status: None,
        pushback,
        is_refusal_of_weir: false,
    })
}

/// A retry that nothing speaks against but `end`.
fn facts<'a>(end: End<'a>, rule: &'a policy::Retry) -> RetryFacts<'a> {
    RetryFacts {
        end,
        rule,
        method: &Method::GET,
        has_idempotency_key: false,
        body_is_replayable: true,
        attempt: 1,
        arrived_as_retry: false,
        free_retry_used: false,
        time_left: Some(Duration::from_secs(1)),
        p50: Some(Duration::from_millis(10)),
        backoff: Duration::from_millis(20),
        destination_is_overloaded: false,
        response_started: false,
    }
}

fn retry(cost: u32, milliseconds: u64) -> RetryDecision {
    RetryDecision::Retry {
        cost,
        delay: Duration::from_millis(milliseconds),
    }
}

#[test]
fn what_was_not_processed_is_retried_for_any_method_and_once_for_free() {
    let rule = policy::Retry::default();
    let is_free = |error: &&UpstreamError| {
        error.is_unprocessed() && !matches!(error, UpstreamError::ConnectTimeout { .. })
    };
    for error in errors().iter().filter(is_free) {
        let first = RetryFacts {
            method: &Method::POST,
            ..facts(End::Failed(error), &rule)
        };
        let RetryDecision::Retry { cost, .. } = decide(&first) else {
            panic!("{error} is not retried");
        };
        assert_eq!(cost, 0, "{error}");
        let again = RetryFacts {
            free_retry_used: true,
            ..first
        };
        assert_eq!(decide(&again), retry(1, 20), "{error}");
    }
}

#[test]
fn a_handshake_that_timed_out_is_retried_for_any_method_but_not_for_free() {
    let rule = policy::Retry::default();
    let errors = errors();
    for free_retry_used in [false, true] {
        let facts = RetryFacts {
            method: &Method::POST,
            free_retry_used,
            ..facts(End::Failed(&errors[1]), &rule)
        };
        assert_eq!(decide(&facts), retry(2, 20));
    }
}

#[test]
fn what_may_have_been_processed_is_retried_only_for_methods_that_may_be_repeated() {
    let rule = policy::Retry::default();
    let errors = errors();
    let reset = End::Failed(&errors[5]);
    for end in [reset, answer(502), answer(503), answer(504)] {
        for method in [Method::GET, Method::PUT, Method::DELETE, Method::HEAD] {
            let facts = RetryFacts {
                method: &method,
                ..facts(end, &rule)
            };
            assert_eq!(decide(&facts), retry(1, 20));
        }
        for method in [Method::POST, Method::PATCH, Method::CONNECT] {
            let facts = RetryFacts {
                method: &method,
                ..facts(end, &rule)
            };
            assert_eq!(decide(&facts), RetryDecision::No(Reason::Method));
            let keyed = RetryFacts {
                has_idempotency_key: true,
                ..facts
            };
            assert_eq!(decide(&keyed), retry(1, 20));
        }
    }
}

#[test]
fn the_policy_decides_which_methods_may_be_repeated() {
    let all = policy::Retry {
        methods: Methods::All,
        ..policy::Retry::default()
    };
    let only = policy::Retry {
        methods: Methods::Only(vec![Method::POST]),
        ..policy::Retry::default()
    };
    let post = |rule| RetryFacts {
        method: &Method::POST,
        ..facts(answer(503), rule)
    };
    assert_eq!(decide(&post(&all)), retry(1, 20));
    assert_eq!(decide(&post(&only)), retry(1, 20));
    let get = RetryFacts {
        has_idempotency_key: true,
        ..facts(answer(503), &only)
    };
    assert_eq!(
        decide(&get),
        RetryDecision::No(Reason::Method),
        "a list is these and no others"
    );
}

#[test]
fn answers_that_a_retry_cannot_mend_are_not_retried() {
    let rule = policy::Retry::default();
    for end in [
        answer(200),
        answer(404),
        answer(429),
        answer(500),
        answer(501),
        grpc(0),
        grpc(8),
        grpc(13),
    ] {
        assert_eq!(
            decide(&facts(end, &rule)),
            RetryDecision::No(Reason::NotRetryable),
            "{end:?}"
        );
    }
    assert_eq!(decide(&facts(grpc(14), &rule)), retry(1, 20));
}

#[test]
fn outcomes_that_the_policy_does_not_name_are_not_retried() {
    let rule = policy::Retry {
        on: policy::Conditions {
            connect_failure: false,
            refused_stream: false,
            reset: false,
            bad_gateway: false,
            unavailable: false,
            gateway_timeout: false,
            grpc_unavailable: false,
        },
        ..policy::Retry::default()
    };
    for error in errors() {
        let decision = decide(&facts(End::Failed(&error), &rule));
        assert!(
            matches!(
                decision,
                RetryDecision::No(Reason::Condition | Reason::NotRetryable)
            ),
            "{error}: {decision:?}"
        );
    }
    for end in [answer(502), answer(503), answer(504), grpc(14)] {
        assert_eq!(
            decide(&facts(end, &rule)),
            RetryDecision::No(Reason::Condition)
        );
    }
}

#[test]
fn each_objection_has_its_reason() {
    let rule = policy::Retry::default();
    let base = facts(answer(503), &rule);
    let cases = [
        (RetryFacts { attempt: 3, ..base }, Reason::Attempts),
        (
            RetryFacts {
                body_is_replayable: false,
                ..base
            },
            Reason::Body,
        ),
        (
            RetryFacts {
                response_started: true,
                ..base
            },
            Reason::ResponseStarted,
        ),
        (
            RetryFacts {
                destination_is_overloaded: true,
                ..base
            },
            Reason::Overloaded,
        ),
        (
            RetryFacts {
                time_left: Some(Duration::from_millis(30)),
                ..base
            },
            Reason::Deadline,
        ),
        (
            RetryFacts {
                end: with_pushback(Pushback::Never),
                ..base
            },
            Reason::Pushback,
        ),
        (
            RetryFacts {
                end: with_pushback(Pushback::ExhaustedBelow),
                ..base
            },
            Reason::ExhaustedBelow,
        ),
        (
            RetryFacts {
                end: with_pushback(Pushback::After(Duration::from_secs(11))),
                time_left: None,
                ..base
            },
            Reason::Pushback,
        ),
    ];
    for (facts, reason) in cases {
        assert_eq!(decide(&facts), RetryDecision::No(reason));
    }
}

#[test]
fn the_servers_wait_comes_on_top_of_the_backoff_and_counts_against_the_deadline() {
    let rule = policy::Retry::default();
    let end = with_pushback(Pushback::After(Duration::from_millis(500)));
    assert_eq!(decide(&facts(end, &rule)), retry(1, 520));
    let hurried = RetryFacts {
        time_left: Some(Duration::from_millis(525)),
        ..facts(end, &rule)
    };
    assert_eq!(decide(&hurried), RetryDecision::No(Reason::Deadline));
}

#[test]
fn timeouts_and_retries_of_retries_cost_two() {
    let rule = policy::Retry::default();
    let errors = errors();
    assert_eq!(decide(&facts(End::Failed(&errors[6]), &rule)), retry(2, 20));
    let arrived = RetryFacts {
        arrived_as_retry: true,
        ..facts(answer(503), &rule)
    };
    assert_eq!(decide(&arrived), retry(2, 20));
}

#[test]
fn a_connection_that_ended_between_calls_is_retried_at_once_even_under_overload() {
    let rule = policy::Retry::default();
    let errors = errors();
    for error in [&errors[2], &errors[4]] {
        let overloaded = RetryFacts {
            destination_is_overloaded: true,
            ..facts(End::Failed(error), &rule)
        };
        assert_eq!(decide(&overloaded), retry(0, 0));
        let again = RetryFacts {
            free_retry_used: true,
            ..overloaded
        };
        assert_eq!(decide(&again), RetryDecision::No(Reason::Overloaded));
    }
    let refused = RetryFacts {
        destination_is_overloaded: true,
        ..facts(End::Failed(&errors[3]), &rule)
    };
    assert_eq!(decide(&refused), RetryDecision::No(Reason::Overloaded));
}

#[test]
fn samples_tell_load_from_failure() {
    let rule = SampleOutcome::Overload;
    for end in [answer(429), answer(503), grpc(8), grpc(14)] {
        assert_eq!(sample(&end), rule, "{end:?}");
    }
    for end in [answer(200), answer(404), grpc(0), grpc(5)] {
        assert_eq!(sample(&end), SampleOutcome::Success, "{end:?}");
    }
    for end in [answer(500), answer(502), grpc(13)] {
        assert_eq!(sample(&end), SampleOutcome::Ignore, "{end:?}");
        assert!(!deposits(&end));
    }
    let End::Answered(refusal) = answer(503) else {
        unreachable!()
    };
    let of_weir = End::Answered(Answer {
        is_refusal_of_weir: true,
        ..refusal
    });
    assert_eq!(sample(&of_weir), SampleOutcome::Ignore);
}

#[test]
fn only_the_endpoints_own_failures_count_for_its_breaker() {
    assert_eq!(endpoint_failed(&answer(503)), Some(false));
    let counted: Vec<_> = errors()
        .iter()
        .map(|error| endpoint_failed(&End::Failed(error)))
        .collect();
    let (failed, silent) = (Some(true), None);
    assert_eq!(
        counted,
        [
            failed, failed, silent, silent, silent, failed, failed, failed, silent
        ]
    );
}

proptest! {
    #[test]
    fn a_call_that_may_have_been_processed_is_never_repeated_against_its_method(
        which in 0_usize..9,
        status in 100_u16..600,
        answered: bool,
        attempt in 1_u32..5,
        arrived_as_retry: bool,
        free_retry_used: bool,
        overloaded: bool,
    ) {
        let rule = policy::Retry::default();
        let errors = errors();
        let end = if answered { answer(status) } else { End::Failed(&errors[which]) };
        let facts = RetryFacts {
            method: &Method::POST,
            attempt,
            arrived_as_retry,
            free_retry_used,
            destination_is_overloaded: overloaded,
            ..facts(end, &rule)
        };
        if let RetryDecision::Retry { cost, .. } = decide(&facts) {
            let End::Failed(error) = end else { panic!("answered, and yet repeated") };
            prop_assert!(error.is_unprocessed());
            prop_assert!(attempt < rule.attempts);
            let unconnected = matches!(error, UpstreamError::ConnectTimeout { .. });
            prop_assert_eq!(cost == 0, !free_retry_used && !unconnected);
        }
    }
}

#[test]
fn a_wait_beyond_all_time_is_a_refusal_and_not_an_overflow() {
    let rule = policy::Retry::default();
    let end = with_pushback(Pushback::After(Duration::from_secs(u64::MAX)));
    let decision = decide(&RetryFacts {
        time_left: Some(Duration::from_mins(1)),
        p50: Some(Duration::MAX),
        backoff: Duration::from_secs(2),
        ..facts(end, &rule)
    });
    assert_eq!(decision, RetryDecision::No(Reason::Pushback));
}

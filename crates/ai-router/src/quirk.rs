//! Leaving out a wish that a provider refused by name, so that the request can be repeated without it.

use manifold_contract::ai::v1::ChatRequest;

/// Removes `field`, named as in OpenAI's dialect. False if it is nothing that may be left out.
pub fn drop_wish(request: &mut ChatRequest, field: &str) -> bool {
    let sampling = request.sampling.get_or_insert_default();
    match field {
        "seed" | "random_seed" => sampling.seed.take().is_some(),
        "top_k" => sampling.top_k.take().is_some(),
        "presence_penalty" => sampling.presence_penalty.take().is_some(),
        "frequency_penalty" => sampling.frequency_penalty.take().is_some(),
        "temperature" => sampling.temperature.take().is_some(),
        "top_p" => sampling.top_p.take().is_some(),
        "logprobs" | "top_logprobs" => sampling.logprobs.take().is_some() | sampling.top_logprobs.take().is_some(),
        "logit_bias" => !std::mem::take(&mut sampling.logit_bias_json).is_empty(),
        "user" => !std::mem::take(&mut request.user).is_empty(),
        "reasoning_effort" => !std::mem::take(&mut request.reasoning_effort).is_empty(),
        "parallel_tool_calls" => request.tool_choice.as_mut().is_some_and(|choice| choice.parallel.take().is_some()),
        extra => request.extras.remove(extra).is_some(),
    }
}

#[cfg(test)]
mod tests {
    use manifold_contract::ai::v1::Sampling;

    use super::*;

    #[test]
    fn drops_a_wish_once_and_never_what_the_request_is_about() {
        let mut request =
            ChatRequest { sampling: Some(Sampling { seed: Some(1), ..Default::default() }), ..Default::default() };

        assert!(drop_wish(&mut request, "seed"));
        assert!(!drop_wish(&mut request, "seed"));
        assert!(!drop_wish(&mut request, "messages"));
    }
}

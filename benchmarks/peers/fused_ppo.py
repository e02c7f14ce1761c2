"""PPO as PureJaxRL runs it: gymnax's CartPole-v1 and all of training in one compiled program.

Settings and structure of PureJaxRL's `ppo.py` (github.com/luchris429/purejaxrl), in code of our own
that needs gymnax, JAX and Optax only: two tanh networks of 64 x 64, 4 environments, rollouts of
128, 4 epochs of 4 minibatches, clipped values, a rate that falls from 2.5e-4 to 0. Prints the steps
per second of the run without its compilation, the seconds that compiling took, and the mean return
of the last 100 episodes, as JSON. Run it with the peers' Python.
"""

import argparse
import itertools
import json
import time
from typing import Any, NamedTuple

import gymnax
import jax
import jax.numpy as jnp
import optax

COPIES, LENGTH, EPOCHS, MINIBATCHES = 4, 128, 4, 4
RATE, DISCOUNT, GAE_LAMBDA, CLIP, MAX_NORM = 2.5e-4, 0.99, 0.95, 0.2, 0.5
ENTROPY_WEIGHT, VALUE_WEIGHT, HIDDEN = 0.01, 0.5, 64


class Steps(NamedTuple):
    """Steps of all copies; leading axes ``[T, N]``, or ``[B]`` in a minibatch."""

    observation: Any
    action: Any
    log_probability: Any
    value: Any
    reward: Any
    done: Any
    episode_return: Any


def make_layers(key, sizes, last_gain):
    """Return orthogonal weights and biases of 0 for a chain of layers."""
    layers = []
    for at, (inputs, outputs) in enumerate(itertools.pairwise(sizes)):
        gain = last_gain if at == len(sizes) - 2 else 2.0**0.5
        key, one = jax.random.split(key)
        weight = jax.nn.initializers.orthogonal(gain)(one, (inputs, outputs))
        layers.append((weight, jnp.zeros(outputs)))
    return layers


def run_layers(layers, x):
    *hidden, (weight, bias) = layers
    for one, shift in hidden:
        x = jnp.tanh(x @ one + shift)
    return x @ weight + bias


def apply(networks, observation):
    """Return log-probabilities ``[..., 2]`` and values ``[...]``."""
    policy, critic = networks
    logits = jax.nn.log_softmax(run_layers(policy, observation))
    return logits, run_layers(critic, observation)[..., 0]


def chosen(log_probabilities, action):
    return jnp.take_along_axis(log_probabilities, action[..., None], -1)[..., 0]


def loss(networks, batch, advantages, targets):
    """PPO's loss with clipped ratios and clipped values."""
    log_probabilities, values = apply(networks, batch.observation)
    ratio = jnp.exp(chosen(log_probabilities, batch.action) - batch.log_probability)
    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)
    gain = jnp.minimum(ratio * advantages, jnp.clip(ratio, 1 - CLIP, 1 + CLIP) * advantages)
    near = batch.value + jnp.clip(values - batch.value, -CLIP, CLIP)
    error = 0.5 * jnp.maximum((values - targets) ** 2, (near - targets) ** 2)
    entropy = -jnp.sum(jnp.exp(log_probabilities) * log_probabilities, -1)
    return jnp.mean(VALUE_WEIGHT * error - gain - ENTROPY_WEIGHT * entropy)


def make_train(updates):
    """Return the whole training as one function of a key."""
    env, settings = gymnax.make("CartPole-v1")
    passes = EPOCHS * MINIBATCHES

    def rate(count):
        return RATE * (1.0 - (count // passes) / updates)

    optimizer = optax.chain(optax.clip_by_global_norm(MAX_NORM), optax.adam(rate, eps=1e-5))

    def act(carry, _):
        networks, environment, observation, total, key = carry
        key, for_action, for_steps = jax.random.split(key, 3)
        log_probabilities, value = apply(networks, observation)
        action = jax.random.categorical(for_action, log_probabilities)
        after, environment, reward, *ends, _ = jax.vmap(env.step, (0, 0, 0, None))(
            jax.random.split(for_steps, COPIES), environment, action, settings
        )
        done = ends[0] | ends[1]  # one flag for both, as in PureJaxRL
        total = total + reward
        row = Steps(
            observation, action, chosen(log_probabilities, action), value, reward, done, total
        )
        return (networks, environment, after, jnp.where(done, 0.0, total), key), row

    def advantages_of(steps, last_value):
        def back(carry, row):
            advantage, next_value = carry
            goes_on = 1.0 - row.done
            delta = row.reward + DISCOUNT * next_value * goes_on - row.value
            advantage = delta + DISCOUNT * GAE_LAMBDA * goes_on * advantage
            return (advantage, row.value), advantage

        start = jnp.zeros_like(last_value), last_value
        return jax.lax.scan(back, start, steps, reverse=True, unroll=16)[1]

    def learn_minibatch(carry, minibatch):
        networks, state = carry
        change, state = optimizer.update(jax.grad(loss)(networks, *minibatch), state, networks)
        return (optax.apply_updates(networks, change), state), None

    def update(carry, _):
        networks, state, environment, observation, total, key = carry
        (_, environment, observation, total, key), steps = jax.lax.scan(
            act, (networks, environment, observation, total, key), None, LENGTH
        )
        advantages = advantages_of(steps, apply(networks, observation)[1])
        batch = steps, advantages, advantages + steps.value
        flat = jax.tree.map(lambda leaf: leaf.reshape(-1, *leaf.shape[2:]), batch)

        def epoch(carry, key):
            order = jax.random.permutation(key, LENGTH * COPIES).reshape(MINIBATCHES, -1)
            return jax.lax.scan(learn_minibatch, carry, jax.tree.map(lambda x: x[order], flat))

        key, *keys = jax.random.split(key, 1 + EPOCHS)
        (networks, state), _ = jax.lax.scan(epoch, (networks, state), jnp.stack(keys))
        return (networks, state, environment, observation, total, key), (
            steps.done,
            steps.episode_return,
        )

    def train(key):
        key, one, other, resets = jax.random.split(key, 4)
        networks = (
            make_layers(one, (4, HIDDEN, HIDDEN, 2), 0.01),
            make_layers(other, (4, HIDDEN, HIDDEN, 1), 1.0),
        )
        observation, environment = jax.vmap(env.reset, (0, None))(
            jax.random.split(resets, COPIES), settings
        )
        carry = networks, optimizer.init(networks), environment, observation
        return jax.lax.scan(update, (*carry, jnp.zeros(COPIES), key), None, updates)[1]

    return train


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=500_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    updates = arguments.steps // (COPIES * LENGTH)
    key = jax.random.key(arguments.seed)
    begin = time.perf_counter()
    train = jax.jit(make_train(updates)).lower(key).compile()
    compiled = time.perf_counter()
    done, returns = jax.block_until_ready(train(key))
    seconds = time.perf_counter() - compiled
    print(
        json.dumps(
            {
                "steps_per_second": updates * COPIES * LENGTH / seconds,
                "compile_seconds": compiled - begin,
                "mean_return_100": float(returns[done][-100:].mean()),
            }
        )
    )


if __name__ == "__main__":
    main()

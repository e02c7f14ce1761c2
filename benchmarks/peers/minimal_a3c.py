"""The least that an A3C run can be, as a ceiling: CartPole-v1, two threads, 64 copies each.

One XLA call a cycle (20 steps, n-step returns, gradient), Adam under a lock, a journal of versions;
no evaluations, events, checks, faults, checkpoints or files. Written against poise's twin, network
and initial weights, and none of its workers and server. Prints the steps per second of the whole
training, as JSON.
"""

import argparse
import json
import struct
import threading
import time

import equinox as eqx
import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import optax

from poise.envs.twins import CartPole

jax.config.update("jax_cpu_enable_async_dispatch", False)

LENGTH, DISCOUNT, HIDDEN, LIMIT = 20, 0.99, 64, 500
ENTROPY_WEIGHT, VALUE_WEIGHT = 0.01, 0.5


def make_network(key):
    """Two trunks of two layers, as poise's default for vectors."""
    first, second = jax.random.split(key)

    def trunk(outputs, key):
        return eqx.nn.MLP(4, outputs, HIDDEN, 2, activation=jnp.tanh, key=key)

    return trunk(2, first), trunk(1, second)


def make_cycle(structure, unravel, copies):
    """Return the compiled cycle: rollout and gradient of one worker."""
    env = CartPole()

    def apply(vector, observations):
        policy, value = eqx.combine(unravel(vector), structure)
        return jax.vmap(policy)(observations), jax.vmap(value)(observations)[:, 0]

    def step(vector, carry, draw):
        """After an episode's end, the next step starts a new one and does not count."""
        state, elapsed, over = carry
        noise, fresh = draw
        logits, _ = apply(vector, state)
        action = jnp.argmax(logits + noise, axis=-1)
        after = jax.vmap(env.transition, (0, 0, None))(state, action, None)
        after = jnp.where(over[:, None], fresh, after)
        elapsed = jnp.where(over, 0, elapsed + 1)
        failed = jax.vmap(env.terminal, (0, None))(after, None)
        done = failed | (elapsed >= LIMIT)
        return (after, elapsed, done), (state, action, ~over, failed, done)

    def loss(vector, rollout, last):
        states, actions, counts, failed, done = rollout
        observations = jnp.concatenate((states, last[None]))
        logits, values = apply(vector, observations.reshape(-1, 4))
        logits = logits.reshape(LENGTH + 1, copies, 2)[:-1]
        values = values.reshape(LENGTH + 1, copies)
        bootstrap = jax.lax.stop_gradient(values[1:]) * ~failed

        def back(later, row):
            value_after, ended = row
            target = 1.0 + DISCOUNT * jnp.where(ended, value_after, later)
            return target, target

        _, targets = jax.lax.scan(back, bootstrap[-1], (bootstrap, done), reverse=True)
        advantage = targets - values[:-1]
        log_p = jax.nn.log_softmax(logits)
        chosen = jnp.take_along_axis(log_p, actions[..., None], -1)[..., 0]
        entropy = -jnp.sum(jnp.exp(log_p) * log_p, -1)
        policy = -chosen * jax.lax.stop_gradient(advantage) - ENTROPY_WEIGHT * entropy
        each = (policy + VALUE_WEIGHT * advantage**2) * counts
        return jnp.sum(each) / jnp.sum(counts)

    def cycle(vector, carry, key):
        key, noise, fresh = jax.random.split(key, 3)
        draws = (
            jax.random.gumbel(noise, (LENGTH, copies, 2)),
            jax.random.uniform(fresh, (LENGTH, copies, 4), minval=-0.05, maxval=0.05),
        )
        carry, rollout = jax.lax.scan(lambda *one: step(vector, *one), carry, draws)
        return jax.grad(loss)(vector, rollout, carry[0]), jnp.sum(rollout[2]), carry, key

    return cycle


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--copies", type=int, default=64)
    parser.add_argument("--steps", type=int, default=4_000_000)
    arguments = parser.parse_args()
    # XLA's own defaults, which compile three times as long as poise's options and run faster.
    copies, options = arguments.copies, {"xla_cpu_multi_thread_eigen": False}
    arrays, structure = eqx.partition(make_network(jax.random.key(0)), eqx.is_array)
    vector, unravel = jax.flatten_util.ravel_pytree(arrays)
    adam = optax.chain(optax.clip_by_global_norm(0.5), optax.adam(1e-3))
    state = adam.init(vector)

    def update(gradient, state, vector):
        change, state = adam.update(gradient, state, vector)
        return vector + change, state

    states, elapsed, over = np.zeros((copies, 4)), np.zeros(copies, int), np.zeros(copies, bool)
    carry = states.astype(np.float32), elapsed.astype(np.int32), over
    key = jax.random.PRNGKey(0)
    cycle = jax.jit(make_cycle(structure, unravel, copies))
    cycle = cycle.lower(vector, carry, key).compile(options)
    update = jax.jit(update).lower(vector, state, vector).compile(options)
    shared, lock, journal, taken = [vector, state, 0], threading.Lock(), bytearray(), [0]

    def work(number):
        mine, random, version = carry, jax.random.PRNGKey(number), shared[2]
        while taken[0] < arguments.steps:
            gradient, steps, mine, random = cycle(shared[0], mine, random)
            with lock:
                shared[:2] = update(gradient, shared[1], shared[0])
                shared[2] += 1
                taken[0] += int(steps)
                journal.extend(struct.pack("<IIQ", number, version, taken[0]))
                version = shared[2]

    team = [threading.Thread(target=work, args=(one,)) for one in range(arguments.workers)]
    begin = time.perf_counter()
    for one in team:
        one.start()
    for one in team:
        one.join()
    print(json.dumps({"steps_per_second": taken[0] / (time.perf_counter() - begin)}))


if __name__ == "__main__":
    main()

"""A3C on CartPole, with the flags of the tutorial program that poise started from.

    python examples/a3c_cartpole.py --algorithm=random --max-eps=4000    # the baseline: about 22
    python examples/a3c_cartpole.py --train                              # learn
    python examples/a3c_cartpole.py                                      # watch what was learned

Asynchronous Advantage Actor-Critic (Mnih et al. 2016, arXiv 1602.01783): every worker has its own
environments and a copy of the network's parameters, and repeats, without waiting for the others:

1. act for ``--update-freq`` steps, sampling actions from the policy pi(a|s);
2. compute returns: the return of a step is the sum of the discounted rewards after it, plus the
   discounted value V(s) of the state where the rollout stopped, unless the pole fell there; the
   advantage of an action is how much better its return was than V(s);
3. differentiate  -log pi(a|s) * advantage  +  0.5 * (return - V(s))^2  -  0.01 * entropy;
4. send the gradient to the parameter server, which takes one step of a shared Adam optimizer, and
   continue with the parameters that it returns.
"""

import argparse
from pathlib import Path

import poise

ENVIRONMENT = "CartPole-v0"


def main() -> None:
    """Parse the tutorial's flags and do what they say."""
    parser = argparse.ArgumentParser(description="Run A3C on CartPole.")
    parser.add_argument("--algorithm", choices=["a3c", "random"], default="a3c")
    parser.add_argument("--train", action="store_true", help="train; otherwise play")
    parser.add_argument("--lr", type=float, default=1e-3, help="learning rate of the shared Adam")
    parser.add_argument("--update-freq", type=int, default=20, help="steps between two updates")
    parser.add_argument("--max-eps", type=int, default=1000, help="episodes to train or play")
    parser.add_argument("--gamma", type=float, default=0.99, help="discount")
    parser.add_argument("--save-dir", type=Path, default=Path("runs/example"))
    arguments = parser.parse_args()
    if arguments.algorithm == "random":
        score = poise.random_baseline(ENVIRONMENT, episodes=arguments.max_eps)
        print(f"{score.episodes} random episodes: mean return {score.mean:.1f}")
    elif arguments.train:
        train(arguments)
    else:
        play(arguments)


def train(arguments: argparse.Namespace) -> None:
    """Train with the tutorial's settings."""
    result = poise.train(
        ENVIRONMENT,
        run_dir=own_folder(arguments.save_dir),
        callbacks=[report],
        max_episodes=arguments.max_eps,
        activation="relu",
        learning_rate=arguments.lr,
        rollout_length=arguments.update_freq,
        discount=arguments.gamma,
        gae_lambda=1.0,  # n-step returns, as in the paper
        value_coefficient=1.0,  # of half the squared error
        entropy_coefficient=0.01,
        failure_reward=-1.0,  # a fall gives a reward of -1 instead of +1, in training only
    )
    score = result.summary["evaluation"]
    print(f"Mean of 100 fresh episodes: {score['mean']:.1f}; solved: {result.solved}")
    print(f"The learning curve is in {result.folder / 'learning_curve.png'}")


def report(seconds: float, event: object) -> None:
    """Print every finished episode."""
    if isinstance(event, poise.EpisodeFinished):
        print(
            f"Episode: {event.episode} | Moving average: {event.moving_average:.1f} | "
            f"Reward: {event.episode_return:.0f} | Loss: {event.loss:.3f} | "
            f"Steps: {event.length} | Worker: {event.worker}"
        )


def own_folder(save_dir: Path) -> Path:
    """The run's folder in --save-dir. An earlier run of this example is deleted."""
    folder = save_dir / "a3c-cartpole"
    if (folder / "config.json").is_file():
        poise.remove_run(folder)
    return folder


def play(arguments: argparse.Namespace) -> None:
    """Play greedily, printing every step."""
    try:
        for step in poise.play(arguments.save_dir / "a3c-cartpole", seed=0):
            print(f"{step.step}. Reward: {step.running_return:.0f}, action: {step.action}")
    except KeyboardInterrupt:
        print("Received a keyboard interrupt: the environment is closed.")


if __name__ == "__main__":
    main()

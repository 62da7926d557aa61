"""Signs of a GAN going wrong, said in words.

Reads the metrics that games and trainer report (`accuracy_real`, `accuracy_fake`,
`gradient_generator`, `diversity`); a metric that a game does not report is not watched.
"""

from collections.abc import Mapping

SMOOTH = 0.9
PATIENCE = 20
SATURATED, RECOVERED = 0.98, 0.93
VANISHED = 0.01
COLLAPSED = 0.1


class Watch:
    """Remembers enough of the past to tell a bad turn from a bad step.

    A warning is given once per episode: again only after the sign has gone and come back.
    """

    def __init__(self) -> None:
        self._mean: dict[str, float] = {}
        self._best: dict[str, float] = {}
        self._since: dict[str, int] = {}
        self._told: set[str] = set()
        self._seen: dict[str, int] = {}

    def read(self, step: int, metrics: Mapping[str, float]) -> list[str]:
        """Take in one reading.

        Args:
            step: Its step.
            metrics: Numbers by name.

        Returns:
            Warnings, usually none.
        """
        for name, value in metrics.items():
            self._mean[name] = SMOOTH * self._mean.get(name, value) + (1 - SMOOTH) * value
            self._seen[name] = self._seen.get(name, 0) + 1
        words = []
        if {"accuracy_real", "accuracy_fake"} <= metrics.keys():
            worst = min(self._mean["accuracy_real"], self._mean["accuracy_fake"])
            words += self._judge(
                "saturated",
                worst > SATURATED,
                worst < RECOVERED,
                f"step {step}: the discriminator tells real from fake in {worst:.0%} of the "
                "cases, so the generator learns nothing from it; lower "
                "train.rate_discriminator or raise loss.r1",
            )
        words += self._fallen(
            step,
            metrics,
            "gradient_generator",
            VANISHED,
            "the generator's gradient has all but vanished",
            "raise train.rate_generator or loss.r1, or lower train.rate_discriminator",
        )
        words += self._fallen(
            step,
            metrics,
            "diversity",
            COLLAPSED,
            "outputs for different noise have become nearly the same",
            "the GAN is collapsing: raise loss.texture or loss.r1",
        )
        return words

    def _fallen(
        self,
        step: int,
        metrics: Mapping[str, float],
        name: str,
        share: float,
        what: str,
        advice: str,
    ) -> list[str]:
        if name not in metrics or self._seen[name] < 3:
            return []
        now = self._mean[name]
        self._best[name] = max(self._best.get(name, now), now)
        return self._judge(
            name,
            now < share * self._best[name],
            now > 2 * share * self._best[name],
            f"step {step}: {what} ({now:.2g}, was {self._best[name]:.2g}); {advice}",
        )

    def _judge(self, sign: str, bad: bool, good: bool, words: str) -> list[str]:
        self._since[sign] = self._since.get(sign, 0) + 1 if bad else 0
        if good:
            self._told.discard(sign)
        if self._since[sign] >= PATIENCE and sign not in self._told:
            self._told.add(sign)
            return [words]
        return []

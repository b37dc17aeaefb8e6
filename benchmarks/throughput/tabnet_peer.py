"""pytorch-tabnet: its `TabNetClassifier` with its own `fit`."""

import numpy as np
import torch
from jaxtyping import Float
from pytorch_tabnet.tab_model import TabNetClassifier

from .clock import RaceClock
from .contender import SHAPE, Parameters, Setting
from .plain_loop import batches, count_parameters
from .rows import N_NUMERICAL, VOCABULARIES, Rows


class PyTorchTabNet:
    """One matrix of numbers and levels given to `fit`."""

    notes: tuple[str, ...] = (
        "two logits and a cross-entropy, as its classifier has them",
        "a mask is shared by a level's embedding, a sixteenth of it for each column",
        "clips the gradient's norm at 1, its default",
        "keeps a short last batch, which by default it drops",
    )

    def build(self, rows: Rows, setting: Setting) -> int:
        """Joins the columns and makes the network."""
        self.setting = setting
        self.columns, self.labels = _matrix(rows.numerical, rows.categorical), rows.labels[:, 0]
        self.classifier = TabNetClassifier(
            n_d=SHAPE.d_decision,
            n_a=SHAPE.d_attention,
            n_steps=SHAPE.n_decision_steps,
            gamma=SHAPE.gamma,
            cat_idxs=list(range(N_NUMERICAL, N_NUMERICAL + len(VOCABULARIES))),
            cat_dims=[size + 1 for size in VOCABULARIES],
            cat_emb_dim=SHAPE.d_embedding,
            n_independent=SHAPE.n_independent,
            n_shared=SHAPE.n_shared,
            lambda_sparse=SHAPE.sparsity,
            seed=setting.seed,
            optimizer_params={"lr": setting.learning_rate},
            device_name="cpu",
            verbose=0,
        )
        # A warm start takes the network that is there; `fit` would make one that the clock cannot watch.
        self.classifier.input_dim = self.columns.shape[1]
        self.classifier.virtual_batch_size = SHAPE.ghost_batch_size
        self.classifier.update_fit_params(self.columns, self.labels, [], 0)
        self.classifier._set_network()
        return -(-len(rows) // setting.batch_size)

    def parameters(self) -> Parameters:
        """Counts the parameters of the model."""
        return count_parameters(self.classifier.network)

    def train(self, clock: RaceClock) -> None:
        """Runs `fit`."""
        clock.watch(self.classifier.network)
        self.classifier.fit(
            self.columns,
            self.labels,
            max_epochs=self.setting.epochs,
            batch_size=self.setting.batch_size,
            virtual_batch_size=SHAPE.ghost_batch_size,
            drop_last=False,
            warm_start=True,
            compute_importance=False,
        )

    def predict(self, rows: Rows) -> Float[np.ndarray, " rows"]:
        """Scores the click."""
        network = self.classifier.network
        network.eval()
        with torch.no_grad():
            parts = [network(torch.from_numpy(_matrix(*columns)))[0] for columns in batches(rows)]
        network.train()
        return torch.cat([logits[:, 1] - logits[:, 0] for logits in parts]).numpy()


def _matrix(numerical: Float[np.ndarray, "rows 30"], categorical: np.ndarray) -> Float[np.ndarray, "rows 50"]:
    return np.concatenate([numerical, categorical], axis=1, dtype=np.float32)

"""Without a head every task sees the same vector, and its gradient is the sum of the tasks'."""

import torch

from shelfrank.nn.heads.none import NoHead


def test_every_task_sees_the_vector_itself() -> None:
    x_final = torch.tensor([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], requires_grad=True)
    views = NoHead(d_in=2, n_tasks=4)(x_final)

    assert views.shape == (3, 4, 2)
    for task in range(4):
        assert torch.equal(views[:, task], x_final)
    (views * torch.arange(4.0)[None, :, None]).sum().backward()
    assert x_final.grad is not None
    assert x_final.grad.tolist() == [[6.0, 6.0]] * 3
    assert NoHead(d_in=2, n_tasks=4)(x_final[:0]).shape == (0, 4, 2)

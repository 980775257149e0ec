"""A network judged with the statistics of each batch, in place of those gathered in training."""

import numpy as np
import torch
from rich.console import Console
from torch import Tensor

from truemask.build import build
from truemask.datasets.sample import Parts, SegmentationDataset
from truemask.labels import LabelMap
from truemask.metrics.confusion import confusion_matrices
from truemask.models.segmenter import Segmenter
from truemask.per_image import Evaluation
from truemask.runs import Run

_BATCH = 8
_DATASET = "truemask.datasets.textures.textures"


def batch_statistics(run: Run, console: Console) -> None:
    """Evaluate with the batch norms in training mode, batches of 8, on the run's test images.

    It writes `evaluation-batch-statistics.json`. The running statistics of the loaded model change
    on the way, those of the run's files do not.

    Raises:
        UsageError: the run has no weights, or its data cannot be made.
    """
    bundle = run.load_bundle()
    dataset = run.config["data"]["dataset"]
    parts: Parts = build(dataset, key="data.dataset", allow=frozenset({_DATASET}))
    test = parts["test"]
    evaluation = _in_batches(bundle.model, test, bundle.labels)
    run.write_evaluation("batch-statistics", evaluation.result(), save=evaluation.save)


@torch.inference_mode()
def _in_batches(model: Segmenter, dataset: SegmentationDataset, labels: LabelMap) -> Evaluation:
    names, matrices = [], []
    model.train()
    for start in range(0, len(dataset), _BATCH):
        samples = [dataset[i] for i in range(start, min(start + _BATCH, len(dataset)))]
        images = torch.stack([sample.image.as_subclass(Tensor) for sample in samples])
        masks = torch.stack([sample.mask.as_subclass(Tensor) for sample in samples])
        predicted = labels.decode(model(images))
        matrices.append(confusion_matrices(masks, predicted, num_classes=labels.num_classes))
        names += [sample.name for sample in samples]
    counts = torch.cat(matrices).numpy()
    return Evaluation(
        names=names,
        matrices=counts,
        losses=np.full(len(names), np.nan),
        attributes=[{} for _ in names],
        labels=labels,
    )

"""A mask for a photo by an exported model: python predict_onnx.py model.onnx photo.jpg mask.png."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

model, photo, out = sys.argv[1:]
session = onnxruntime.InferenceSession(model)
said = json.loads(session.get_modelmeta().custom_metadata_map["truemask"])
image = np.asarray(ImageOps.exif_transpose(Image.open(photo)).convert("RGB"))
mask, confidence = session.run(["mask", "confidence"], {"image": image[None]})
for label in said["labels"]["classes"]:
    print(f"{label['name']:20} {(mask[0] == label['id']).mean():7.2%}")
print(f"{'mean confidence':20} {confidence[0]:7.3f}")
colored = Image.fromarray(mask[0])
colored.putpalette([value for label in said["labels"]["classes"] for value in label["color"]])
colored.save(out)

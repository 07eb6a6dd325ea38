import sys,json,pathlib
import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file
src=pathlib.Path('/work/wt32/tests/golden')
import glob
def meta(p):
    with safe_open(p,'np') as f: return f.metadata()
for p in sorted(glob.glob(str(src/'*'/'model.safetensors'))):
    m=meta(p); print(p.split('/')[-2], m['channels'], m['height'],m['width'], m.get('classes'), m.get('levels'))

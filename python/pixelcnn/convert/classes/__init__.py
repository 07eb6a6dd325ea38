"""Classes where other people's networks put them: tensors → places → choice → our tensors."""

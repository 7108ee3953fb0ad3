"""The rule that has learnt what faults look like: a small network, and what it was taught.

==============  =====================================================================================
`network`       `FaultNetwork`: an image -> how much each place looks like each kind of fault
`lessons`       what it learns from: real windows and random packings with planted defects and controls
`training`      `train_network` on lessons
`learnt_rule`   `LearntFaults`: two networks, each tried on the half of the scan that it never saw
==============  =====================================================================================
"""

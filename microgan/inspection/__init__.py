"""What a scan is, before anything is learnt from it, and how it may be read: for people with a new scan.

- `inspection`: `inspect`, everything that is known of a scan; `Inspection`.
- `proposal`: `propose`, polarity and radius band by what explains the image best, or why there is none.
- `explained`: how much of an image circles explain; `patches`: the parts of planes that are looked at.
- `split`: `propose_split`, parts of a scan that are independent of each other.
- `entry`: the entry under ``scans:`` of params.yaml, as text.
"""

"""The freeze policies of this program: one module for each, named as a config names the policy.

A module defines a frozen dataclass, a subclass of `finetune.freezing.policy.Policy`, and offers it as
``POLICY``. Nothing else lists the policies. All of them but ``patterns`` act on the backbone; the head
always trains.
"""

"""What mitmdump and mitmweb load: `mitmdump -s solaris_addon.py --set solaris_config=solaris.toml`."""

from solaris_meter.proxy.addons import Solaris

addons = [Solaris()]

"""Files as releases wrote them, byte for byte: nothing here follows the code, which has to read them all."""

import base64

# Release 2: a line of the spool, its place in a segment, and a file of the mask store.
SPOOLED_2 = (
    b'{"format":1,"event_time":"2026-03-01T12:00:00+00:00","request_id":"old","model_name":"resunet",'
    b'"model_version":"3","model_digest":"sha256:aa","route":"production","client":"lab-7","slice":null,'
    b'"engine":"onnxruntime","status":"ok","latency_ms":12.5,"width":256,"height":128,"image_digest":"sha256:11",'
    b'"threshold":0.5,"descriptors":{"brightness":0.25,"confidence":0.5},"embedding":null,'
    b'"mask_rle":"{\\"size\\":[2,2],\\"counts\\":[1,3]}"}'
)
SEGMENT_2 = b"c610e0a3 " + SPOOLED_2 + b"\n"
MASK = '{"size":[2,2],"counts":[1,3]}'
MASK_FILE_2 = ("2026-03-01/aa/" + "a" * 64 + ".json.gz", base64.b64decode(
    "H4sIAAAAAAAEA6tWKs6sSlWyijbSMYrVUUrOL80rKQZyDXWMY2sBnoVKxx0AAAA="
))  # fmt: skip

# Release 3, the first that seals: a blob, and a line that it wrote with a key.
KEY_3 = bytes(range(32))
SEALED_NAME_3, SEALED_CONTENT_3 = "mask/" + "a" * 64, b"what a mask shows"
SEALED_3 = base64.b64decode(
    "AHJlc3VuZXQtc2VhbGVkLTEK/5bFOtybW+Voa8rkvl/oqRg2W4JHD5tJSi96O9NpPuUJW5zgAwrP5sWsOgrtov6sjM2kfcQ="
)
SPOOLED_3 = (
    b'{"format":2,"event_time":"2026-03-01T12:00:00+00:00","request_id":"new","model_name":"resunet",'
    b'"model_version":"3","model_digest":"sha256:aa","route":"production","client":"lab-7","slice":null,'
    b'"engine":"onnxruntime","status":"ok","latency_ms":12.5,"width":256,"height":128,"image_digest":"sha256:11",'
    b'"threshold":0.5,"descriptors":{"brightness":0.25,"confidence":0.5},"embedding":null,"mask_rle":null,'
    b'"mask_sealed":"AHJlc3VuZXQtc2VhbGVkLTEK/5bFOtybW+WdExmJwVLA/+0fHpDOEKMMkCaW1xQp+yBhHLphh12/zAL5/rUKbTMWmjNknnbng9'
    b'UX8/XC7UYYIlBssuNJ4R1cslrraPpGTV5EunA=",'
    b'"image_sealed":"AHJlc3VuZXQtc2VhbGVkLTEK/5bFOtybW+Uxeg8qyyqLyqiuNsZLsofCunF4UIxcf+lCIeZV1v/6LgkcmRs="}'
)
ANSWER_3, IMAGE_3 = "5f4a0db1bb7cfdd80ac778e442907367b9bd0644b01a2d37ff26f4df3b37b996", b"an image"

"""The receiver. The path of an event, in the order in which to read:

1. `receiver` takes the request apart: HTTP in, HTTP out.
2. `intake` shows the whole trip in one function.
3. `verifying` turns the token into claims that can be trusted, or says why not.
4. `normalising` turns claims into the envelope that subscribers see.
5. `contract.codec` turns the envelope into a record with topic, key and headers.
6. `delivering` makes the record durable, in Kafka or in the embedded log, and gives the receipt.

`errors` is every way to say no, `handover` what one stage hands to the next, `metrics` what is
counted. `app` builds it all from `settings`; `cli` is how it is started.
"""

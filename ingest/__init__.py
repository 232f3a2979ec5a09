"""The receiver. The path of an event, in the order in which to read:

1. `http.receiver` takes the request apart: HTTP in, HTTP out.
2. `intake` shows the whole trip in one function.
3. `verifying` turns the token into claims that can be trusted, or says why not.
4. `normalising` turns claims into the envelope that subscribers see.
5. `contract.codec` turns the envelope into a record with topic, key and headers.
6. `publishing` makes the record durable, in the log or in the `spool`, and says where it is.

`errors` is every way to say no, `values` what one stage hands to the next, `observing` what is
counted. `wiring` builds it all from `settings`, `app` runs it, `commands` is how it is started.
"""

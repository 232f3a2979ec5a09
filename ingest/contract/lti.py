"""Names of the LTI claims that we look at ourselves, each spelled once.

Source: LTI Core 1.3 section 5.3; Canvas documentation, Platform Notification Service.
"""

CLAIM = "https://purl.imsglobal.org/spec/lti/claim/"

NOTICE = CLAIM + "notice"
DEPLOYMENT_ID = CLAIM + "deployment_id"

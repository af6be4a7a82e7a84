"""Puts the intake service together."""

from datetime import timedelta

import jwt
from fastapi import FastAPI

from services.intake.account_store import AccountStore
from services.intake.api import complaints, oauth, people, second_factor, sign_in, tracking
from services.intake.attempt_store import AttemptStore
from services.intake.attempts import Attempts
from services.intake.client_store import ClientStore
from services.intake.identity import Passwords
from services.intake.keys import SigningKeys, TrackingCodes
from services.intake.place import City
from services.intake.projection import CONSUMES, ISSUES
from services.intake.second_factor import SecondFactors
from services.intake.second_factor_store import SecondFactorStore
from services.intake.settings import Settings
from services.intake.store import AccessStore, ComplaintStore
from shared import telemetry
from shared.limits import Addresses
from shared.photos import Photos
from shared.pseudonyms import Pseudonyms
from shared.service import Contract, Service


def build(settings: Settings) -> FastAPI:
    """The application; nothing is connected until it starts. Raises for a key, city or category file that is no use."""
    service = Service("intake", settings, Contract(consumes=CONSUMES, issues=ISSUES))
    keys = SigningKeys(settings.signing_key_file, settings.previous_key_file, timedelta(minutes=settings.token_minutes))
    for key in keys.jwks["keys"]:
        service.verifier.trust(jwt.PyJWK(key))
    pseudonyms = Pseudonyms(settings.pseudonym_key_file)
    passwords = Passwords()
    store = ComplaintStore(service.database, settings.deadlines, pseudonyms)
    accounts, accesses = AccountStore(service.database), AccessStore(service.database)
    tries = AttemptStore(service.database)
    addresses = Addresses(settings.limits.trusted_proxies)
    attempts = Attempts(tries, addresses, settings.tracking_key_file, settings.sign_in_free_tries)
    second_factors = SecondFactors(
        SecondFactorStore(service.database),
        settings.tracking_key_file,
        required=settings.staff_second_factor == "required",
    )
    journal = service.journal([store.projection])
    intake = complaints.Intake(
        store,
        accounts,
        accesses,
        journal,
        Photos(service, "intake", settings.photos),
        City.load(settings.city_file),
        settings.categories_file,
        TrackingCodes(settings.tracking_key_file),
        settings.deadlines,
        pseudonyms,
    )
    service.consume(store.projection.apply)
    for step in (store.ensure_indexes, accounts.ensure_indexes, accesses.ensure_indexes, tries.ensure_indexes):
        service.before_start(step)

    async def count() -> None:
        for status, known in (await store.count_by_status()).items():
            telemetry.CASES.labels(status).set(known)

    service.every(timedelta(seconds=15), count)
    service.every(timedelta(seconds=10), people.healing(accounts, journal))
    service.every(timedelta(seconds=10), intake.close_lapsed)
    return service.app(
        "LAPOR! Pontianak: intake",
        "Citizens, sign-in, reports and photos: SOP step 1, corrections, ratings and tracking.",
        [
            complaints.router(intake),  # first: routes are tried in this order, and this is what is asked for most
            people.router(accounts, accesses, journal, passwords),
            sign_in.router(accounts, passwords, keys, attempts, second_factors),
            second_factor.router(accounts, second_factors, attempts),
            oauth.router(ClientStore(service.database), keys),
            tracking.router(intake),
        ],
    )

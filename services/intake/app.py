"""Puts the intake service together."""

from datetime import timedelta

import jwt
from fastapi import FastAPI

from services.intake.account_store import AccountStore
from services.intake.api import (
    complaints,
    export,
    oauth,
    own_sessions,
    people,
    registration,
    rights,
    second_factor,
    sign_in,
    tracking,
)
from services.intake.api.contacts import Contacts
from services.intake.api.proof import Proof
from services.intake.attempt_store import AttemptStore
from services.intake.attempts import Attempts
from services.intake.challenge_store import ChallengeStore
from services.intake.challenges import Challenges
from services.intake.client_store import ClientStore
from services.intake.erasure import Erasure
from services.intake.export import Exports
from services.intake.identity import Passwords
from services.intake.keys import SigningKeys, TrackingCodes
from services.intake.place import City
from services.intake.projection import CONSUMES, ISSUES
from services.intake.restrictions import Restrictions
from services.intake.retention import keepings
from services.intake.second_factor import SecondFactors
from services.intake.second_factor_store import SecondFactorStore
from services.intake.session_store import SessionStore
from services.intake.sessions import Lifetimes, Sessions
from services.intake.settings import Settings
from services.intake.store import AccessStore, ComplaintStore
from shared import telemetry
from shared.codes import OneTimeCodes
from shared.contract import Contract
from shared.limits import Addresses
from shared.photos import Photos
from shared.pseudonyms import Pseudonyms
from shared.service import Service


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
    session_store, challenge_store = SessionStore(service.database), ChallengeStore(service.database)
    challenges = Challenges(challenge_store, OneTimeCodes(settings.code_key_file), service.publisher)
    lifetimes = Lifetimes(
        timedelta(days=settings.session_idle_days),
        timedelta(days=settings.session_days),
        timedelta(hours=settings.staff_session_hours),
    )
    sessions = Sessions(session_store, accounts, keys, lifetimes, service.verifier)
    tries = AttemptStore(service.database)
    addresses = Addresses(settings.limits.trusted_proxies)
    attempts = Attempts(tries, addresses, settings.tracking_key_file, settings.sign_in_free_tries)
    second_factors = SecondFactors(
        SecondFactorStore(service.database),
        settings.tracking_key_file,
        required=settings.staff_second_factor == "required",
    )
    journal = service.journal([store.projection])
    contacts = Contacts(accounts, challenges, journal, sms=settings.sms_domain is not None)
    photos = Photos(service, "intake", settings.photos, store.photos_of)
    restrictions, proof = Restrictions(accounts), Proof(passwords, sessions)
    erasure = Erasure(accounts, store, accesses, photos.store, sessions, challenge_store, service.publisher)
    intake = complaints.Intake(
        store,
        accounts,
        accesses,
        journal,
        photos,
        City.load(settings.city_file),
        settings.categories_file,
        TrackingCodes(settings.tracking_key_file),
        settings.deadlines,
        restrictions,
        pseudonyms,
    )
    service.consume(store.projection.apply)
    for part in (store, accounts, accesses, session_store, challenge_store, tries):
        service.before_start(part.ensure_indexes)

    async def count() -> None:
        for status, known in (await store.count_by_status()).items():
            telemetry.CASES.labels(status).set(known)

    service.keep(*keepings(service.database))
    service.every(timedelta(seconds=15), count)
    service.every(timedelta(seconds=1), sessions.learn)
    service.every(timedelta(milliseconds=20), challenges.send)
    service.every(timedelta(seconds=2), restrictions.learn)
    service.every(timedelta(seconds=2), erasure.go_on)
    service.every(timedelta(seconds=10), contacts.heal)
    service.every(timedelta(seconds=10), intake.close_lapsed)
    return service.app(
        "LAPOR! Pontianak: intake",
        "Citizens, sign-in, reports and photos: SOP step 1, corrections, ratings and tracking.",
        [
            # The first of them: routes are tried in this order, and this is what is asked for most.
            complaints.router(intake, service.audit),
            registration.router(accounts, challenges, contacts, passwords, sessions),
            people.router(accounts, accesses, challenges, contacts),
            sign_in.router(
                accounts,
                passwords,
                keys,
                sessions,
                challenges,
                contacts,
                proof,
                attempts,
                second_factors,
                service.audit,
            ),
            second_factor.router(accounts, second_factors, attempts, sessions, service.audit),
            oauth.router(ClientStore(service.database), keys),
            export.router(intake, sessions, Exports(), service.audit),
            rights.router(accounts, contacts, restrictions, erasure, proof, service.audit),
            own_sessions.router(sessions, service.audit),
            tracking.router(intake),
        ],
    )
